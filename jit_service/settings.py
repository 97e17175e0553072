"""The settings: from flags first, then from JIT_* in the environment. Nothing else reads the environment."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jit_service.check import AuditMode
from jit_service.domain.bounds import Bounds
from jit_service.issuers import MAX_TOKEN_BYTES, Issuer, demand_own_principals
from jit_service.notifications.receivers import Receiver
from jitaccess.jose.keys import is_safe_url

_URL: Final = re.compile(r"[\x21-\x7e]{1,256}")


class Transport(StrEnum):
    """The gRPC server (docs/adr/0021-two-transports.md)."""

    GRPCIO = "grpcio"
    NATIVE = "native"


class SettingsError(ValueError):
    """A setting is wrong. The message is one line that names it."""


@dataclass(frozen=True)
class Address:
    """A TCP address; port 0 takes a free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the address of `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
            raise ValueError(f"{text!a} is not HOST:PORT, such as 127.0.0.1:8081 or [::1]:8081")
        if int(port) > 65535:
            raise ValueError(f"{text!a} has a port above 65535")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is not JSON; give a list") from None


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _span(value: object) -> object:
    """Reads a number of seconds in an environment variable as a span."""
    return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value


BoundAddress = Annotated[Address, NoDecode, BeforeValidator(_address)]
Span = Annotated[timedelta, BeforeValidator(_span)]


class Settings(BaseSettings):
    """All settings, each of which is a flag of the same name or JIT_NAME in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="JIT_", frozen=True, extra="ignore", arbitrary_types_allowed=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default=Path(".data"), description="Where files are kept.")
    database_url: str = Field(
        default="", repr=False, description="sqlite:///FILE or postgresql://…; may hold a secret."
    )
    grpc: BoundAddress = Field(default=Address("127.0.0.1", 8081), description="Where gRPC is served.")
    http: BoundAddress = Field(default=Address("127.0.0.1", 8080), description="Where Envoy serves REST and gRPC.")
    http_rate: int = Field(
        default=2000, ge=1, le=1_000_000, description="Calls a second through Envoy, in bursts of twice as many."
    )
    http_rate_per_address: int = Field(
        default=500, ge=1, le=1_000_000, description="The same for one client's address (of IPv6, its /64)."
    )
    policies: Path | None = Field(default=None, description="A policy file to apply at the start.")
    issuers: Annotated[tuple[Issuer, ...], NoDecode, BeforeValidator(_decoded)] = Field(
        default=(), description="The issuers, as a JSON list."
    )
    issuers_file: Path | None = Field(default=None, description="The issuers, as a YAML list in a file.")
    notifications: Annotated[tuple[Receiver, ...], NoDecode, BeforeValidator(_decoded)] = Field(
        default=(), description="The receivers of notifications, as a JSON list."
    )
    notifications_file: Path | None = Field(default=None, description="The same, as a YAML list in a file.")
    notifications_source: str = Field(
        default="/jitaccess",
        pattern=r"^[!-~]{1,256}$",
        description="The `source` of the CloudEvents that are sent: a URI that identifies this service.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=("unix",),
        description="Peers whose x-envoy-external-address is believed: addresses, CIDRs, or `unix`.",
    )
    max_token_lifetime: Span = Field(default=timedelta(hours=24), description="The longest exp - iat of a token.")
    max_token_bytes: int = Field(
        default=MAX_TOKEN_BYTES,
        ge=1 << 10,
        le=64 << 10,
        description="The longest token of a caller; Envoy takes 32 KiB of headers in all.",
    )
    transport: Transport = Field(default=Transport.GRPCIO, description="The gRPC server: `grpcio` or `native`.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share the port and the store.")
    token_issuer: str = Field(
        default="", description="The URL that tokens of grants name as their issuer; without it none are issued."
    )
    max_grant_token_lifetime: Span = Field(
        default=timedelta(minutes=15), le=timedelta(hours=1), description="The longest life of a grant's token."
    )
    key_file: Path | None = Field(
        default=None,
        description="The key that seals rows and signing keys, the same on all hosts; by default made in data_dir.",
    )
    token_key_rotation: Span = Field(default=timedelta(days=30), description="How long a key signs tokens.")
    token_key_overlap: Span = Field(
        default=timedelta(hours=1), ge=timedelta(minutes=10), description="How long a key is published before it signs."
    )
    rpc_threads: int = Field(default=16, ge=1, le=512, description="How many calls are answered at once.")
    max_message_bytes: int = Field(default=1 << 20, ge=1 << 10, le=1 << 26, description="The largest request.")
    sweep_interval: Span = Field(default=timedelta(seconds=1), description="How often expiries are recorded.")
    policies_dual_control: bool = Field(
        default=False, description="Whether a change of policies needs a second admin's approval."
    )
    audit_checks: AuditMode = Field(
        default=AuditMode.COMMITTED,
        description="Which checks are recorded: `committed` before the answer, `buffered` after it, `denied` only a no "
        "(before it), `off` none. Grants that count their uses are always recorded, committed.",
    )
    bounded_staleness: Span = Field(
        default=timedelta(seconds=1), description="The greatest age of the data that a BOUNDED check may use."
    )
    watch_streams: int = Field(default=64, ge=1, le=4096, description="How many watch streams may be open at once.")
    watch_streams_per_principal: int = Field(
        default=8, ge=1, le=4096, description="How many of them one principal without the role checker may have."
    )
    watch_streams_reserved: int = Field(
        default=8, ge=0, le=4096, description="How many of them are reserved for the role checker; at most half."
    )
    max_pending: int = Field(
        default=20, ge=1, le=10_000, description="How many undecided requests one requester may have."
    )
    max_pattern_bytes: int = Field(
        default=32 << 10, ge=1 << 10, le=1 << 20, description="Bytes of resources and actions in one request."
    )
    max_children: int = Field(
        default=100, ge=1, le=10_000, description="Live grants that may be passed on from one grant, at any depth."
    )
    max_delegations_given: int = Field(
        default=50, ge=1, le=10_000, description="Delegations that one delegator may have given."
    )
    max_delegations_held: int = Field(
        default=100, ge=1, le=10_000, description="Delegations that one delegate may have."
    )
    writes_per_second: float = Field(
        default=100, ge=1, le=1e6, description="Writes that one principal may make in a second, in each process."
    )
    checks_per_second: float = Field(
        default=2000,
        ge=1,
        le=1e6,
        description="Checks and reads that one principal may make in a second, in each process; not the role checker.",
    )
    passing: BoundAddress | None = Field(
        default=None,
        description="Where Envoys on other hosts have open requests watched; without it, only a Unix socket does this.",
    )
    passing_streams: int = Field(
        default=4096, ge=1, le=1 << 16, description="How many open requests the service watches at once."
    )
    reflection: bool = Field(default=True, description="Whether gRPC reflection is served.")

    @property
    def bounds(self) -> Bounds:
        """The bounds of what one caller may store."""
        return Bounds(
            pending=self.max_pending,
            children=self.max_children,
            given=self.max_delegations_given,
            held=self.max_delegations_held,
            pattern_bytes=self.max_pattern_bytes,
        )

    @property
    def store_url(self) -> str:
        """The database's URL for SQLAlchemy: SQLite in data_dir by default; PostgreSQL always by psycopg 3."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir.resolve() / 'jit.db'}"
        scheme, separator, rest = self.database_url.partition("://")
        return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else self.database_url

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """Returns the settings from the flags and the environment. Raises SettingsError."""
        try:
            settings = cls(**flags)
            listed: dict[str, Any] = {}
            if settings.issuers_file is not None:
                listed["issuers"] = (*settings.issuers, *_list_of(settings.issuers_file, "issuers"))
            if settings.notifications_file is not None:
                receivers = _list_of(settings.notifications_file, "notifications")
                listed["notifications"] = (*settings.notifications, *receivers)
            if listed:
                settings = cls(**(flags | listed))
        except ValidationError as fault:
            raise SettingsError(_one_line(fault)) from None
        if settings.token_key_rotation <= settings.token_key_overlap:
            raise SettingsError("JIT_TOKEN_KEY_ROTATION: must be longer than JIT_TOKEN_KEY_OVERLAP")
        names = [issuer.issuer for issuer in settings.issuers]
        if settings.token_issuer in names:
            raise SettingsError(
                "JIT_TOKEN_ISSUER: is also an issuer of callers' tokens, but a grant's token proves no caller"
            )
        if len(set(names)) < len(names):
            raise SettingsError("JIT_ISSUERS: has the same issuer twice")
        try:
            demand_own_principals(settings.issuers)
        except ValueError as fault:
            raise SettingsError(f"JIT_ISSUERS: {fault}") from None
        receivers = [receiver.name for receiver in settings.notifications]
        if len(set(receivers)) < len(receivers):
            raise SettingsError("JIT_NOTIFICATIONS: has the same name twice")
        return settings

    def with_issuer(self, issuer: Issuer) -> Settings:
        """Returns the settings with one more issuer."""
        return self.model_copy(update={"issuers": (*self.issuers, issuer)})

    def with_token_issuer(self, url: str) -> Settings:
        """Returns the settings with this token issuer, unless they have one."""
        return self if self.token_issuer else self.model_copy(update={"token_issuer": url})

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url and url.partition("://")[0] not in ("sqlite", "postgresql", "postgres", "postgresql+psycopg"):
            # The message leaves out the URL, which may hold a password.
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in given:
            if proxy != "unix":
                ipaddress.ip_network(proxy)
        return given

    @field_validator("token_issuer")
    @classmethod
    def _safe_issuer(cls, url: str) -> str:
        if url and (not is_safe_url(url) or url.endswith("/") or "?" in url or "#" in url or not _URL.fullmatch(url)):
            raise ValueError("must be an https URL, or http on loopback, without query, fragment or a slash at its end")
        return url

    @field_validator("max_token_lifetime", "max_grant_token_lifetime", "sweep_interval", "bounded_staleness")
    @classmethod
    def _above_zero(cls, span: timedelta) -> timedelta:
        if span <= timedelta():
            raise ValueError("must be above zero")
        return span


def _list_of(path: Path, what: str) -> list[Any]:
    variable = f"JIT_{what.upper()}_FILE"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{variable}: {path} cannot be read: {' '.join(str(fault).split())}") from fault
    except yaml.YAMLError as fault:
        # The message has the line's number, not its text, which may be a secret.
        mark = getattr(fault, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(
            f"{variable}: {path} is not YAML: {getattr(fault, 'problem', None) or 'bad'}{line}"
        ) from None
    if not isinstance(found, list):
        raise SettingsError(f"{variable}: {path} must hold a list of {what}")
    return found


def _one_line(fault: ValidationError) -> str:
    """Returns the first fault on one line: the variable and what is wrong, without the value, which may be a secret."""
    first = fault.errors(include_url=False, include_input=False)[0]
    name, *path = (str(part) for part in first["loc"])
    where = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path)
    return f"JIT_{name.upper()}{where}: {first['msg'].removeprefix('Value error, ')}"
