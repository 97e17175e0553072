"""One run of a command: how to connect, how to print the answer, and the printing itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from jitaccess.naming.printable import safe

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from jitaccess import JitClient, JitError
    from jitaccess.cli.screen import Screen
    from jitaccess.config import Config, TokenSource


class Output(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, kw_only=True)
class Session:
    """The options that every command takes. None was not given."""

    output: Output | None = None
    address: str | None = None
    token_file: Path | None = None
    tls: bool | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None
    timeout: float | None = None
    context: str | None = None

    def over(self, outer: Session) -> Session:
        """Returns the options of both; those of this one, given after the command, come first."""
        return Session(
            output=self.output or outer.output,
            address=self.address or outer.address,
            token_file=self.token_file or outer.token_file,
            tls=self.tls if self.tls is not None else outer.tls,
            ca_file=self.ca_file or outer.ca_file,
            cert_file=self.cert_file or outer.cert_file,
            cert_key_file=self.cert_key_file or outer.cert_key_file,
            timeout=self.timeout if self.timeout is not None else outer.timeout,
            context=self.context or outer.context,
        )

    @property
    def token(self) -> TokenSource | None:
        """The token that the options name, or None to look in environment and file."""
        from jitaccess.config import token_file

        return token_file(self.token_file) if self.token_file else None

    @property
    def can_ask(self) -> bool:
        """Whether both input and output are terminals, so that a question can be asked."""
        return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()

    @property
    def shows_on_terminal(self) -> bool:
        """Whether people see the answer itself."""
        return self.output in (None, Output.TABLE) and sys.stdout.isatty()

    def settings(self) -> Config:
        """Returns how to reach the service, and as whom. Raises what JitClient raises."""
        from jitaccess import config

        return config.load(
            address=self.address,
            token=self.token,
            tls=self.tls,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            cert_key_file=self.cert_key_file,
            context=self.context,
        )

    def client(self) -> JitClient:
        """Returns a client as the options want it. Raises what JitClient raises."""
        from jitaccess.client import JitClient

        return self._made(JitClient)

    def lasting_client(self) -> JitClient:
        """Returns a client whose streams, once begun, last until they are interrupted."""
        from jitaccess.cli.lasting import LastingClient

        return self._made(LastingClient)

    def _made(self, kind: type[JitClient]) -> JitClient:
        from jitaccess._transport import DEFAULT_TIMEOUT
        from jitaccess.cli import hush

        hush.once_grpc_is_loaded()
        return kind(
            self.address,
            token=self.token,
            timeout=DEFAULT_TIMEOUT if self.timeout is None else self.timeout,
            tls=self.tls,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            cert_key_file=self.cert_key_file,
            context=self.context,
        )

    def answer(self, message: Message, show: Callable[[Screen], None]) -> None:
        """Prints a message as REST would give it, or shows it to people."""
        if self.output in (Output.JSON, Output.YAML):
            self.print_data(rest_json(message))
        else:
            self.show(show)

    def answer_one_of_many(self, message: Message, show: Callable[[Screen], None]) -> None:
        """Prints a message of a stream: a line of JSON, a document of YAML, or what people are shown; at once."""
        if self.output is Output.JSON:
            import json

            sys.stdout.write(json.dumps(rest_json(message)) + "\n")
        elif self.output is Output.YAML:
            sys.stdout.write("---\n")
            self.print_data(rest_json(message))
        else:
            self.show(show)
        sys.stdout.flush()

    def answer_data(self, data: Mapping[str, object], show: Callable[[Screen], None]) -> None:
        """Prints data of the command line's own, or shows it to people."""
        if self.output in (Output.JSON, Output.YAML):
            self.print_data(data)
        else:
            self.show(show)

    def print_data(self, data: Mapping[str, object]) -> None:
        """Prints plain JSON or YAML. Both escape all but ASCII, and with it whatever a terminal could act on."""
        if self.output is Output.YAML:
            import yaml

            text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=False)
        else:
            import json

            text = json.dumps(data, indent=2) + "\n"
        sys.stdout.write(text)

    def show(self, show: Callable[[Screen], None]) -> None:
        """Shows something on a screen made for where the output goes."""
        from jitaccess.cli.screen import screen_on

        show(screen_on(sys.stdout))

    def report(self, error: JitError, command: str = "") -> None:
        """Prints the error of the command: google.rpc.Status with `-o json`, else words, its fields and a hint."""
        from jitaccess.cli.connecting import explained
        from jitaccess.cli.exits import hint_for

        error = explained(error, self)
        if self.output is Output.JSON:
            sys.stderr.write(_status_json(error) + "\n")
            return
        lines = [f"error: {safe(_in_words(error, command))} ({safe(error.reason)})"]
        faults = [f"{item.field}: {item.description}" for item in error.field_violations]
        lines += [f"  {safe(fault)}" for fault in faults if fault != error.message]
        lines += [f"hint: {hint}"] if (hint := hint_for(error)) else []
        sys.stderr.write("\n".join(lines) + "\n")


def rest_json(message: Message) -> dict[str, object]:
    """Returns what Envoy's transcoder prints, whose print options ask for fields at their default value too."""
    from google.protobuf import json_format

    from jitaccess.naming.json_numbers import with_whole_numbers

    data: dict[str, object] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return dict(with_whole_numbers(data))


def _in_words(error: JitError, command: str) -> str:
    """Returns the message; of a role that is missing, with the command that was typed for the method that it called."""
    method, _, rest = error.message.partition(" ")
    by_method = error.reason == "ROLE_REQUIRED" and method.startswith("/")
    return f"`{command}` {rest}" if command and by_method else error.message


def _status_json(error: JitError) -> str:
    from google.protobuf import json_format
    from google.rpc import code_pb2, error_details_pb2
    from google.rpc.status_pb2 import Status

    status = Status()
    if error.status is not None:
        status.CopyFrom(error.status)
        return _printable_json(status)
    status.code, status.message = code_pb2.Code.Value(error.code), error.message
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="jitaccess", metadata=error.metadata)
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=item.field, description=item.description)
        for item in error.field_violations
    ]
    status.details.add().Pack(info)
    if violations:
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    return json_format.MessageToJson(status)


def _printable_json(status: Message) -> str:
    """Returns the status as JSON, without details of types that this client does not know."""
    from google.protobuf import json_format

    try:
        return json_format.MessageToJson(status)
    except (TypeError, json_format.Error):
        status.ClearField("details")
        return json_format.MessageToJson(status)
