"""Tries what a start needs, without starting, writing or migrating anything: `jit-service check`."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from jit_service.configuration import certificate
from jit_service.configuration.exposure import exposed
from jit_service.configuration.redaction import without_tokens
from jit_service.domain.errors import JitError, KeysUnavailable, StoreUnavailable
from jit_service.issuers import Issuer, login_issuer
from jit_service.notifications.receivers import AnyReceiver
from jit_service.rpc import policy_file
from jit_service.rpc.authentication import keys_of
from jit_service.runtime.channels import wire_to
from jit_service.runtime.envoy import NO_TEMPORARY_DIRECTORY
from jit_service.runtime.sealing import known_sealing_keys_of, source_of
from jit_service.runtime.service_error import ServiceError
from jit_service.runtime.tracing import Tracing
from jit_service.settings import Address, Settings, SettingsError, Transport
from jit_service.storage.inspection import Found, inspect, sqlite_file
from jit_service.storage.readers.reading import Clock
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases.keyring import KeyFileError, KeyRing
from jitaccess.extras import ExtraMissing


class Level(StrEnum):
    """How much a finding weighs: with a fault the service does not start, or nobody can use it."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Form(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"


class Finding(NamedTuple):
    """One thing that was tried, and what is to be said of it."""

    level: Level
    about: str
    message: str


_Try = Callable[[Settings], Iterator[Finding]]
_ok: Final = partial(Finding, Level.OK)
_warning: Final = partial(Finding, Level.WARNING)
_fault: Final = partial(Finding, Level.FAULT)
_RENEW_BEFORE: Final = timedelta(days=14)


@dataclass(frozen=True)
class Report:
    """All findings. With a fault it fails; if it is strict, with a warning too."""

    findings: Sequence[Finding]
    strict: bool

    @property
    def fails(self) -> bool:
        """Whether something is wrong that must be."""
        worst = {Level.FAULT, Level.WARNING} if self.strict else {Level.FAULT}
        return any(finding.level in worst for finding in self.findings)

    def text(self, form: Form) -> str:
        """Returns a line for each finding, or an object with `ok`, `version` and `findings` (level, about, message)."""
        if form is Form.TEXT:
            return "\n".join(f"{level:<8} {about}: {message}" for level, about, message in self.findings)
        told = [finding._asdict() for finding in self.findings]
        return json.dumps({"ok": not self.fails, "version": version("jit-service"), "findings": told}, indent=1)

    def table(self) -> str:
        """Returns the findings as a table for people: what, how it is, and the words."""
        width = max(len(finding.about) for finding in self.findings)
        return "\n".join(f"{about:<{width}}  {level:<7}  {message}" for level, about, message in self.findings)


def report(load: Callable[[], Settings], *, clock: Clock, strict: bool = False) -> Report:
    """Tries everything. `load` may raise SettingsError."""
    return examined(load, partial(findings, clock=clock), strict=strict)


def examined(
    load: Callable[[], Settings], examine: Callable[[Settings], Iterator[Finding]], *, strict: bool = False
) -> Report:
    """Returns what is found with the settings; if they do not load, nothing else can be tried."""
    try:
        found = tuple(examine(load()))
    except SettingsError as fault:
        found = tuple(_fault("settings", each) for each in fault.faults)
    # The words of a library may quote what it was given.
    return Report(tuple(each._replace(message=without_tokens(each.message)) for each in found), strict)


def findings(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    """Yields what is found, in the order of a start."""
    yield _ok("settings", f"are those of jit-service {version('jit-service')}")
    tries: tuple[_Try, ...] = (
        _files,
        _retention,
        _checkpoints,
        _ports,
        _traces,
        partial(_certificate, clock=clock),
        partial(_database, clock=clock),
        _policies,
        _receivers,
        _issuers,
    )
    for attempt in tries:
        yield from attempt(settings)


def _files(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_dir.absolute()
    if not directory.exists():
        parent = next(each for each in directory.parents if each.exists())
        made = _ok if os.access(parent, os.W_OK | os.X_OK) else _fault
        yield made("data directory", f"{directory} is not there; it is made at the start, in {parent}")
    elif not directory.is_dir() or not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield _fault("data directory", f"{directory} is no directory that this user may read and write")
    else:
        yield _ok("data directory", f"{directory} can be written")
    yield from (_warning("files", message) for message in exposed(directory, database_file(settings)))
    try:
        tempfile.gettempdir()
    except OSError:
        yield _warning("files", f"{NO_TEMPORARY_DIRECTORY}; `up` needs it for its Envoy")


def database_file(settings: Settings) -> Path | None:
    """Returns SQLite's file; None for another database, and for a URL that cannot be read, which its own try tells."""
    try:
        return sqlite_file(settings.store_url)
    except StoreUnavailable:
        return None


def _retention(settings: Settings) -> Iterator[Finding]:
    if settings.audit_retention is None:
        return
    if not settings.token_issuer:
        yield _fault("retention", "JIT_AUDIT_RETENTION needs JIT_TOKEN_ISSUER, whose keys sign where the log begins")
    archive = settings.audit_archive
    if archive is not None and not (archive.is_dir() and os.access(archive, os.W_OK | os.X_OK)):
        yield _warning("retention", f"{archive} is no directory that this user may write, so that nothing is pruned")
    elif archive is not None:
        yield _ok("retention", f"audit records are archived in {archive} before they are pruned")


def _checkpoints(settings: Settings) -> Iterator[Finding]:
    to = settings.checkpoint_to
    if not to:
        return
    if not settings.token_issuer:
        yield _fault("checkpoints", "JIT_CHECKPOINT_TO needs JIT_TOKEN_ISSUER, whose keys sign the checkpoints")
    if "://" in to or to == "log":
        return
    if not (os.path.isdir(to) and os.access(to, os.W_OK | os.X_OK)):
        yield _warning("checkpoints", f"{to} is no directory that this user may write, so that none is kept")
    else:
        yield _ok("checkpoints", f"are kept in {to}")


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, address in (("grpc", settings.grpc), ("passing", settings.passing), ("metrics", settings.metrics)):
        if address is not None and (fault := _unbindable(address)):
            yield _fault(name, f"{address.host} is not an address of this machine ({fault})")
    if settings.transport is Transport.NATIVE and importlib.util.find_spec("pygrpc_native") is None:
        yield _fault("transport", "native needs pygrpc-native: install jit-service[native]")


def _traces(settings: Settings) -> Iterator[Finding]:
    if not settings.traces:
        return
    try:
        Tracing(settings).stop()
    except (ExtraMissing, SettingsError) as fault:
        yield _fault("traces", str(fault))
        return
    yield _ok("traces", "are exported as the settings say; nothing was sent")


def _certificate(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    if settings.tls is None:
        return
    about = "certificate"
    try:
        expires_at = certificate.read(settings.tls).expires_at
    except ValueError as fault:
        yield _fault(about, str(fault))
        return
    left = expires_at - clock()
    told = f"{settings.tls.chain} is good until {expires_at:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta():
        yield _fault(about, f"{settings.tls.chain} has expired, at {expires_at:%Y-%m-%d %H:%M} UTC: no client takes it")
    elif left < _RENEW_BEFORE:
        yield _warning(about, f"{told}, in {left.days} days: renew it; the service takes the new one by itself")
    else:
        yield _ok(about, told)


def _unbindable(address: Address) -> str:
    """Returns why the host's address cannot be bound. The port may be taken now, by the service that is replaced."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.bind((address.host, 0))
    except OSError as fault:
        return fault.strerror or str(fault)
    return ""


def _database(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    keys = None
    try:
        keys = _sealing_keys(settings)
        what = "JIT_KEY_COMMAND gives" if settings.key_command else f"{settings.key_path} can be used; it has"
        yield _ok("key file", f"{what} {'a key' if len(keys.ids) == 1 else f'{len(keys.ids)} keys'}")
    except (KeyFileError, ServiceError) as fault:
        if settings.key_command or settings.key_file is not None or settings.key_path.exists():
            yield _fault("key file", str(fault))
    try:
        found = inspect(settings.store_url, keys=keys, clock=clock)
    except (StoreUnavailable, ExtraMissing) as fault:
        yield _fault("database", " ".join(str(fault).split()))
        return
    if found.schema_fault:
        yield _fault("database", found.schema_fault)
        return
    if found.newer:
        yield _warning("database", f"{found.server}: {found.newer}")
    else:
        yield _ok("database", f"{found.server} with the schema of this version")
    if found.promise_fault:
        yield _warning("standby", found.promise_fault)
    yield from _seals(settings, keys, found)


def _sealing_keys(settings: Settings) -> SealingKeys:
    """Returns the keys; makes no key file, as a start does. Raises KeyFileError, ServiceError."""
    source_of(settings)
    return known_sealing_keys_of(settings)


def _seals(settings: Settings, keys: SealingKeys | None, found: Found) -> Iterator[Finding]:
    path = settings.key_path
    named = "the key of JIT_KEY_COMMAND" if settings.key_command else str(path)
    if keys is None:
        if not settings.key_command and not path.exists():
            yield _fault("key file", f"{path} is not there, but the database is: put back the key that sealed it")
        return
    if found.seal_fault:
        yield _fault(
            "key file",
            f"{named} does not open the database ({found.seal_fault}): it is another key, or somebody changed the "
            "database",
        )
    else:
        yield _sealing_key(keys.ids, found.sealing_key)
    ring = KeyRing(keys)
    for sealed in found.keys if settings.token_issuer else ():
        try:
            ring.public(sealed)
        except KeysUnavailable as fault:
            yield _fault("key file", f"{named}: {fault}")


def _sealing_key(ids: Sequence[str], in_effect: str) -> Finding:
    """Returns how far a rotation is: which of the keys seals the store, and what is to do next."""
    about, told = "sealing key", f"{in_effect} is in effect"
    newer, older = ids[: ids.index(in_effect)], ids[ids.index(in_effect) + 1 :]
    if newer:
        return _warning(about, f"{told}, {newer[0]} is to follow: once each host has it, run `jit-service keys reseal`")
    if older:
        return _warning(
            about, f"{told}; {', '.join(older)} may be removed now: keep it only with the backups that it sealed"
        )
    return _ok(about, f"{told}, and is the only one")


def _policies(settings: Settings) -> Iterator[Finding]:
    if settings.policies is None:
        return
    try:
        yield _ok("policies", f"{settings.policies} has {len(policy_file.load(settings.policies))} policies")
    except (policy_file.PolicyFileError, JitError) as fault:
        yield _fault("policies", " ".join(str(fault).split()))


def _receivers(settings: Settings) -> Iterator[Finding]:
    for receiver in settings.notifications:
        yield _receiver(receiver, settings)


def _receiver(receiver: AnyReceiver, settings: Settings) -> Finding:
    about = f"receiver {receiver.name}"
    try:
        fault = wire_to(receiver, settings).look_up()
    except SettingsError as broken:
        return _fault(about, str(broken))
    if fault:
        return _warning(about, f"would get nothing now: {fault}")
    return _ok(about, f"is {receiver.kind}, and its name leads where it may; nothing was sent")


def _issuers(settings: Settings) -> Iterator[Finding]:
    if not settings.issuers:
        yield _fault("issuers", "none is configured, so nobody could call: set JIT_ISSUERS_FILE")
    for issuer in settings.issuers:
        yield _issuer(issuer)
    login = login_issuer(settings.issuers)
    if login is not None and not settings.resource:
        yield _warning(
            "log-in",
            f"nobody is told to log in at {login.issuer}, since the service does not know its URL: set JIT_PUBLIC_URL",
        )


def _issuer(issuer: Issuer) -> Finding:
    about = f"issuer {issuer.issuer}"
    try:
        keys = keys_of(issuer).look()
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as fault:
        words = f"its keys cannot be had: {' '.join(str(fault).split()) or type(fault).__name__}"
        if issuer.jwks_file is not None:
            return _fault(about, words)
        # The service starts all the same, and asks again every few seconds.
        return _warning(about, f"{words}; until they can, its callers get UNAVAILABLE (ISSUER_KEYS_UNAVAILABLE)")
    if not len(keys):
        return _fault(about, "its key set has no key that may sign tokens, so all of its tokens would be refused")
    return _ok(about, f"has {len(keys)} keys")
