"""The settings: from flags first, then JIT_* in the environment, then a file. Nothing else reads the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from jit_service.check import AuditMode
from jit_service.client_certificates import CertificatePrincipal, demand_distinct
from jit_service.configuration import settings_file, table, transport_security
from jit_service.configuration.certificate import TlsFiles
from jit_service.configuration.database_url import DATABASE_FORM, DatabaseUrl, without_secrets
from jit_service.configuration.draining import DrainingSettings
from jit_service.configuration.environment import CONFIG, Source, demand_known, sources_of
from jit_service.configuration.faults import SettingsError, lines
from jit_service.configuration.forms import JSON_LIST, Address, BoundAddress, CommaList, Span
from jit_service.configuration.keeping import KeepingSettings
from jit_service.configuration.logs import LogFormat, LogLevel
from jit_service.configuration.secret_file import program_of, shown_path
from jit_service.configuration.settings_file import SettingsFile
from jit_service.configuration.tracing import TracingSettings
from jit_service.domain.bounds import Bounds
from jit_service.issuers import MAX_TOKEN_BYTES, Issuer, demand_own_principals, demand_unmade, login_issuer
from jit_service.notifications.checkpoint_post import demand_checkpoint_url
from jit_service.notifications.receivers import AnyReceiver
from jit_service.notifications.routes import Route, routes_of
from jitaccess.jose.keys import is_safe_url

LISTENS: Final = ("grpc", "passing", "metrics")
"""The ports of every service, by their settings; `up` has another one, `http`."""
__all__ = ["LISTENS", "Address", "Settings", "SettingsError", "Source", "Transport", "config_of_environment"]
_SECRET_FILES: Final = ("key_file", "tls_key", "traces_headers_file")
_URL: Final = re.compile(r"[\x21-\x7e]{1,256}")
_ISSUER_FORM: Final = "an https URL, or http on loopback, without query, fragment or a slash at its end"


class Transport(StrEnum):
    """The gRPC server (docs/adr/0021-two-transports.md)."""

    GRPCIO = "grpcio"
    NATIVE = "native"


class Lists(BaseModel):
    """The settings that are lists, which files may go on with."""

    model_config = ConfigDict(frozen=True)

    issuers: tuple[Issuer, ...] = ()
    notifications: tuple[AnyReceiver, ...] = ()
    routes: tuple[Route, ...] = ()


class Settings(DrainingSettings, KeepingSettings, TracingSettings):
    """All settings, each of which is JIT_NAME in the environment; some are flags too, which come first.

    Once loaded, `issuers`, `notifications` and `routes` have what the files list too. A `form` says in words what a
    text must be.
    """

    model_config = SettingsConfigDict(
        env_prefix="JIT_", frozen=True, extra="ignore", arbitrary_types_allowed=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default=Path(".data"), description="The data directory, where files are kept.")
    database_url: DatabaseUrl = Field(
        default="",
        repr=False,
        description="The database, with its password if there is one; by default SQLite, jit.db in the data directory.",
        json_schema_extra={"form": DATABASE_FORM},
    )
    grpc: BoundAddress = Field(default=Address("127.0.0.1", 8081), description="Where gRPC is served.")
    http: BoundAddress = Field(default=Address("127.0.0.1", 8080), description="Where the Envoy of `up` serves.")
    http_rate: int = Field(
        default=2000, ge=1, le=1_000_000, description="Calls a second through Envoy, in bursts of twice as many."
    )
    http_rate_per_address: int = Field(
        default=500, ge=1, le=1_000_000, description="The same for one client's address (of IPv6, its /64)."
    )
    policies: Path | None = Field(default=None, description="A policy file to apply at the start.")
    issuers: Annotated[tuple[Issuer, ...], NoDecode, JSON_LIST] = Field(
        default=(), description="The issuers whose tokens prove callers; docs/guides/identity.md has their keys."
    )
    issuers_file: Path | None = Field(
        default=None,
        description="More issuers, as a YAML list. A change of the file is taken within seconds, without a restart.",
    )
    notifications: Annotated[tuple[AnyReceiver, ...], NoDecode, JSON_LIST] = Field(
        default=(), description="The receivers of notifications; docs/guides/notifications.md has their keys."
    )
    notifications_file: Path | None = Field(
        default=None,
        description="More receivers, as a YAML list, or `receivers` and `routes` with a list each; read at the start. "
        "Their secret files are read at each use.",
    )
    routes: Annotated[tuple[Route, ...], NoDecode, JSON_LIST] = Field(
        default=(), description="Where people and groups are told; docs/guides/notifications.md has their keys."
    )
    notifications_source: str = Field(
        default="/jitaccess",
        pattern=r"^[!-~]{1,256}$",
        description="The `source` of the CloudEvents that are sent: a URI that identifies this service.",
        json_schema_extra={"form": "1 to 256 ASCII characters without spaces"},
    )
    console_url: str = Field(
        default="",
        description="The URL below which people's browsers find /console, to which messages link; by default "
        "JIT_PUBLIC_URL, else http:// and JIT_HTTP.",
        json_schema_extra={"form": _ISSUER_FORM},
    )
    trusted_proxies: CommaList = Field(
        default=("unix",),
        description="The peers that may name their client's address (x-envoy-external-address), for the audit log.",
        json_schema_extra={"form": "addresses, networks such as 10.0.0.0/8, or `unix`, with commas between them"},
    )
    trust_any_proxy: bool = Field(
        default=False, description="Allow a network of all addresses in JIT_TRUSTED_PROXIES; anybody can lie then."
    )
    tls_cert: Path | None = Field(
        default=None,
        description="The certificate chain, in PEM, for TLS at the TCP ports: gRPC, passing, and Envoy's of `up`. "
        "A change of the file is taken at the next connection, without a restart.",
    )
    tls_key: Path | None = Field(
        default=None, description="The private key of JIT_TLS_CERT, in PEM, without a passphrase."
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="The authorities, in PEM, of clients' certificates; with it gRPC and passing demand one (mTLS).",
    )
    tls_principals: Annotated[tuple[CertificatePrincipal, ...], NoDecode, JSON_LIST] = Field(
        default=(),
        description="The service principals that clients' certificates prove; docs/guides/tls.md has the keys.",
    )
    insecure_listen: bool = Field(
        default=False,
        description="Listen without TLS on other addresses than loopback; something else must encrypt the way.",
    )
    allow_plaintext: bool = Field(default=False, description="The older name of JIT_INSECURE_LISTEN.")
    max_token_lifetime: Span = Field(
        default=timedelta(hours=24),
        gt=timedelta(),
        description="The longest life of a caller's token (exp - iat); one of longer life is refused.",
    )
    max_token_bytes: int = Field(
        default=MAX_TOKEN_BYTES,
        ge=1 << 10,
        le=64 << 10,
        description="The longest token of a caller; Envoy takes 32 KiB of headers in all.",
    )
    transport: Transport = Field(
        default=Transport.GRPCIO, description="The gRPC server; docs/adr/0021-two-transports.md says when to use which."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share the port and the store.")
    token_issuer: str = Field(
        default="",
        description="The URL that tokens of grants name as their issuer; without it none are issued.",
        json_schema_extra={"form": _ISSUER_FORM},
    )
    public_url: str = Field(
        default="",
        description="The URL at which callers and browsers reach the service; by default JIT_TOKEN_ISSUER.",
        json_schema_extra={"form": _ISSUER_FORM},
    )
    public_grpc_address: BoundAddress | None = Field(
        default=None,
        description="Where clients reach gRPC; by default the host and port of JIT_PUBLIC_URL, where Envoy serves it.",
    )
    max_grant_token_lifetime: Span = Field(
        default=timedelta(minutes=15),
        gt=timedelta(),
        le=timedelta(hours=1),
        description="The longest life of a grant's token.",
    )
    key_file: Path | None = Field(
        default=None,
        description="The keys that seal rows and signing keys, for all hosts; by default token.key in data_dir.",
    )
    key_command: str = Field(
        default="",
        description="A command that prints those keys, instead of a file: from a KMS or an HSM. Run at the start.",
        json_schema_extra={"form": "a program with its arguments, quoted as for a shell, which does not run it"},
    )
    token_key_rotation: Span = Field(default=timedelta(days=30), description="How long a key signs tokens.")
    token_key_overlap: Span = Field(
        default=timedelta(hours=1), ge=timedelta(minutes=10), description="How long a key is published before it signs."
    )
    rpc_threads: int = Field(default=16, ge=1, le=512, description="How many calls are answered at once.")
    max_message_bytes: int = Field(default=1 << 20, ge=1 << 10, le=1 << 26, description="The largest request.")
    sweep_interval: Span = Field(
        default=timedelta(seconds=1), gt=timedelta(), description="How often expiries are recorded."
    )
    log_format: LogFormat = Field(default=LogFormat.TEXT, description="The form of the log's lines.")
    log_level: LogLevel = Field(default=LogLevel.INFO, description="The least that is logged.")
    policies_dual_control: bool = Field(
        default=False, description="Whether a change of policies needs a second admin's approval."
    )
    longest_idle: Span = Field(
        default=timedelta(days=90),
        gt=timedelta(),
        description="With SQLite, a start this long after the newest record is refused: the clock may be wrong.",
    )
    audit_checks: AuditMode = Field(
        default=AuditMode.COMMITTED,
        description="Which checks are recorded: `committed` before the answer, `buffered` after it, `denied` only a no "
        "(before it), `off` none. Grants that count their uses are always recorded, committed.",
    )
    bounded_staleness: Span = Field(
        default=timedelta(seconds=1),
        gt=timedelta(),
        description="The greatest age of the data that a BOUNDED check may use.",
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
    metrics: BoundAddress | None = Field(
        default=None,
        description="Where Prometheus scrapes /metrics, without a token; nothing is served there by default.",
    )
    passing_streams: int = Field(
        default=4096, ge=1, le=1 << 16, description="How many open requests the service watches at once."
    )
    reflection: bool = Field(default=True, description="Whether gRPC reflection is served.")

    _file: SettingsFile | None = PrivateAttr(default=None)
    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    # The lists without what the files add to them.
    _beside_files: Lists = PrivateAttr(default_factory=Lists)

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
    def key_path(self) -> Path:
        """The key file, where there is no `key_command`."""
        return self.key_file or self.data_dir / "token.key"

    @property
    def store_url(self) -> str:
        """The database's URL for SQLAlchemy: SQLite in data_dir by default; PostgreSQL always by psycopg 3."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir.resolve() / 'jit.db'}"
        scheme, separator, rest = self.database_url.partition("://")
        return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else self.database_url

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS at the TCP ports; None for ports without."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(chain=self.tls_cert, key=self.tls_key, client_ca=self.tls_client_ca)

    @property
    def resource(self) -> str:
        """The URL of the service as a protected resource (RFC 9728); empty if it is not known."""
        return self.public_url or self.token_issuer

    @property
    def console(self) -> str:
        """The URL below which people's browsers find /console, without a last slash."""
        return self.console_url or self.resource or f"{'https' if self.tls else 'http'}://{self.http}"

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where each setting comes from."""
        return self._sources

    @property
    def file(self) -> SettingsFile | None:
        """The settings file."""
        return self._file

    def effective(self) -> str:
        """Returns all settings in one line, without secrets."""
        return table.effective(self, instead=self.instead_of_secrets)

    @property
    def instead_of_secrets(self) -> Mapping[str, str]:
        """What to show of settings that may hold a secret, as URLs of receivers and of databases do, or are long."""
        return {
            "database_url": without_secrets(self.database_url),
            "issuers": ",".join(issuer.issuer for issuer in self.issuers),
            "notifications": ",".join(receiver.name for receiver in self.notifications),
            "routes": str(len(self.routes)),
            "checkpoint_to": self.checkpoint_to.partition("://")[0],
            "key_command": self.key_command and f"{program_of(self.key_command)} …".lstrip(),
            **{name: shown_path(getattr(self, name)) for name in _SECRET_FILES if getattr(self, name)},
            "tls_principals": ",".join(rule.principal for rule in self.tls_principals),
        }

    @property
    def as_given(self) -> dict[str, Any]:
        """The settings as JSON values, from which `load` makes them again and reads their files anew."""
        given = self.model_dump(mode="json", by_alias=True)
        return given | self._beside_files.model_dump(mode="json", by_alias=True)

    @classmethod
    def load(cls, *, config: Path | None = None, listens: Sequence[str] = LISTENS, **flags: Any) -> Settings:
        """Returns the settings from the flags, the environment, the file `config`, and the files that these name.

        `listens` are the ports on which the command that has the settings listens. Raises SettingsError.
        """
        demand_known(os.environ, cls.model_fields)
        file = settings_file.read(config, cls.model_fields) if config is not None else None
        try:
            return cls._loaded(file, flags, listens)
        except SettingsError as fault:
            raise SettingsError(*map(file.located, fault.faults)) if file is not None else fault from None

    @classmethod
    def _loaded(cls, file: SettingsFile | None, flags: Mapping[str, Any], listens: Sequence[str]) -> Settings:
        sources = sources_of(cls.model_fields, flags, os.environ, file.values if file is not None else ())
        of_file = {name: file.values[name] for name, source in sources.items() if file and source is Source.FILE}
        try:
            settings = cls(**of_file, **flags)
        except ValidationError as fault:
            raise SettingsError(*lines(fault, cls)) from None
        settings._sources, settings._file = sources, file
        # Before any file is looked for: whoever would send tokens in clear is told that first.
        settings._demand_safe_ports(listens)
        settings._beside_files = Lists(
            issuers=settings.issuers, notifications=settings.notifications, routes=settings.routes
        )
        listed = settings._with_file("notifications", settings.notifications_file)
        told = {"notifications": listed.notifications, "routes": listed.routes}
        loaded = settings.model_copy(update={"issuers": settings.issuers_now(), **told})
        loaded._demand_whole()
        return loaded

    def issuers_now(self) -> tuple[Issuer, ...]:
        """Returns the issuers, with those that their file lists now. Raises SettingsError."""
        issuers = self._with_file("issuers", self.issuers_file).issuers
        names = [issuer.issuer for issuer in issuers]
        if self.token_issuer in names:
            raise SettingsError(
                "JIT_TOKEN_ISSUER: is also an issuer of callers' tokens, but a grant's token proves no caller"
            )
        if len(set(names)) < len(names):
            raise SettingsError("JIT_ISSUERS: has the same issuer twice")
        try:
            demand_own_principals(issuers)
            login_issuer(issuers)
            for rule in self.tls_principals:
                demand_unmade(issuers, rule.principal)
        except ValueError as fault:
            raise SettingsError(f"JIT_ISSUERS: {fault}") from None
        return issuers

    def _with_file(self, what: str, path: Path | None) -> Lists:
        """Returns the list with what the file adds to it. Raises SettingsError."""
        if path is None:
            return self._beside_files
        try:
            more = _lists_of(path, what)
            return Lists.model_validate({name: [*getattr(self._beside_files, name), *more[name]] for name in more})
        except ValidationError as fault:
            raise SettingsError(*lines(fault, Lists)) from None

    def _demand_whole(self) -> None:
        if self.token_key_rotation <= self.token_key_overlap:
            raise SettingsError("JIT_TOKEN_KEY_ROTATION: must be longer than JIT_TOKEN_KEY_OVERLAP")
        if self.key_file is not None and self.key_command:
            raise SettingsError("JIT_KEY_COMMAND: give this or JIT_KEY_FILE, not both")
        if faults := self.keeping_faults():
            raise SettingsError(*faults)
        if "://" in self.checkpoint_to:
            try:
                demand_checkpoint_url(self.checkpoint_to, allow_private=self.checkpoint_allow_private)
            except ValueError as fault:
                raise SettingsError(f"JIT_CHECKPOINT_TO: {fault}") from None
        receivers = [receiver.name for receiver in self.notifications]
        if len(set(receivers)) < len(receivers):
            raise SettingsError("JIT_NOTIFICATIONS: has the same name twice")
        try:
            demand_distinct(self.tls_principals)
        except ValueError as fault:
            raise SettingsError(f"JIT_TLS_PRINCIPALS: {fault}") from None
        try:
            routes_of(self.routes, self.notifications)
        except ValueError as fault:
            raise SettingsError(f"JIT_ROUTES{fault}") from None
        if not self.trust_any_proxy and any(proxy.endswith("/0") for proxy in self.trusted_proxies):
            raise SettingsError(
                "JIT_TRUSTED_PROXIES: trusts every address, so anybody could write any address into the audit log; "
                "name your proxies' addresses, or set JIT_TRUST_ANY_PROXY=true if nobody else reaches the port"
            )

    def _demand_safe_ports(self, listens: Sequence[str]) -> None:
        tls_faults = transport_security.tls_faults(
            certificate=self.tls_cert is not None,
            key=self.tls_key is not None,
            client_ca=self.tls_client_ca is not None,
            principals=bool(self.tls_principals),
            native=self.transport is Transport.NATIVE,
        )
        in_clear = () if self.insecure_listen or self.allow_plaintext else listens
        ports = {port: getattr(self, port) for port in in_clear}
        faults = [*tls_faults, *transport_security.port_faults(ports, tls=self.tls is not None)]
        if faults:
            raise SettingsError(*faults)

    def with_issuer(self, issuer: Issuer) -> Settings:
        """Returns the settings with one more issuer."""
        copy = self.model_copy(update={"issuers": (*self.issuers, issuer)})
        given = self._beside_files
        copy._beside_files = given.model_copy(update={"issuers": (*given.issuers, issuer)})
        return copy

    def with_token_issuer(self, url: str) -> Settings:
        """Returns the settings with this token issuer, unless they have one."""
        return self if self.token_issuer else self.model_copy(update={"token_issuer": url})

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for number, proxy in enumerate(given, start=1):
            try:
                if proxy != "unix":
                    ipaddress.ip_network(proxy)
            except ValueError:
                form = f"addresses, networks such as 10.0.0.0/8, or unix; number {number} is none"
                raise ValueError(f"must be {form} (a network's other bits are 0)") from None
        return given

    @field_validator("token_issuer", "public_url", "console_url")
    @classmethod
    def _safe_url(cls, url: str) -> str:
        if url and (not is_safe_url(url) or url.endswith("/") or "?" in url or "#" in url or not _URL.fullmatch(url)):
            raise ValueError(f"must be {_ISSUER_FORM}")
        return url


def config_of_environment() -> Path | None:
    """Returns the settings file that the environment names."""
    named = os.environ.get(CONFIG, "")
    return Path(named) if named else None


def _lists_of(path: Path, what: str) -> dict[str, list[Any]]:
    """Returns what a file lists, by the names of `Lists`. Raises SettingsError."""
    variable = f"JIT_{what.upper()}_FILE"
    found = settings_file.document(settings_file.text_of(path, variable), path, variable)
    if what == "notifications" and isinstance(found, dict) and found.keys() <= {"receivers", "routes"}:
        lists = {"notifications": found.get("receivers", []), "routes": found.get("routes", [])}
    else:
        lists = {what: found}
    if not all(isinstance(one, list) for one in lists.values()):
        or_both = ", or `receivers` and `routes` with a list each" if what == "notifications" else ""
        raise SettingsError(f"{variable}: {path} must hold a list of {what}{or_both}")
    return lists
