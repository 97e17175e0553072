"""One running service: its parts, put together from the settings, started and stopped in order."""

from __future__ import annotations

import fcntl
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from jit_service.background import BackgroundThread
from jit_service.check import DecisionCache, GrantCache, Recorder
from jit_service.check.checker import Checker
from jit_service.check.deciding import Caching, Deciding
from jit_service.check.recording import Recording
from jit_service.check.search import Searcher
from jit_service.configuration import certificate
from jit_service.configuration.certificate import FreshCertificate
from jit_service.configuration.fresh_file import FreshFile
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import KeysUnavailable, StoreUnavailable, TokensOff
from jit_service.domain.policies.diff import ChangeType
from jit_service.domain.tokens.signing_key import Rotation
from jit_service.issuers import Issuer, exact_principals
from jit_service.notifications.delivery import Deliverer
from jit_service.notifications.routes import routes_of, subscriptions_of
from jit_service.proxy.open_requests import OpenRequests
from jit_service.rpc import policy_file
from jit_service.rpc.authentication import Authenticator, IssuerKeyKeeper
from jit_service.rpc.client_certificates import ClientCertificates
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.rpc.server import Backend, Server, build_ext_proc_server, build_server
from jit_service.rpc.services.access_messages import encoded_decision
from jit_service.rpc.streams import StreamLimits, Streams
from jit_service.rpc.transport import tls
from jit_service.runtime.audit_compactor import AuditCompactor
from jit_service.runtime.channels import channels_of
from jit_service.runtime.checkpoint_keeper import CheckpointKeeper, checkpointing_by
from jit_service.runtime.gauges import Parts
from jit_service.runtime.retention import Retention, bounds_of, drop_partitions
from jit_service.runtime.sealing import NOTE, sealing_keys_of
from jit_service.runtime.service_error import ServiceError
from jit_service.runtime.steady_clock import MAX_STEP, SteadyClock, utc_now
from jit_service.runtime.sweeper import Sweeper
from jit_service.runtime.tracing import Tracing
from jit_service.settings import Address, Settings
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.migrate import migrate as migrate_database
from jit_service.storage.migrate import newer_schema, schema_fault
from jit_service.storage.readers.reading import Clock
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import policies, proposals, signing_keys
from jit_service.use_cases.keyring import KeyRing
from jit_service.use_cases.past_access import PastAccess
from jit_service.use_cases.signing_keys import Issuing
from jit_service.use_cases.unauthenticated_calls import UnauthenticatedCalls

STOP_SECONDS = 5
_PARTITIONED_AHEAD: Final = 2**28
"""For so many records `migrate` makes partitions, for a service that may not: two months of 50 checks a second."""
_log = logging.getLogger(__name__)


@contextmanager
def sole_user_of(data_dir: Path) -> Iterator[None]:
    """Holds the data directory, since a second Envoy's socket would take the place of the first's.

    Raises ServiceError where another process holds it. The lock goes with the process, however that ends.
    """
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServiceError(f"another service runs on {data_dir}; give this one a --data-dir of its own") from None
        yield


# What a check leaves behind is in no cycle, and looking for cycles by Python's own thresholds, which are for short
# programs, is a fifth of the time of those that are asked for the first time. Generations 0, 1, 2.
_COLLECT_AFTER: Final = (20_000, 50, 100)


class _Part(Protocol):
    """What a service starts and stops."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Listening:
    """A gRPC server as a part: calls under way may go on for `grace` seconds after it is stopped."""

    def __init__(self, server: Server, *, grace: float) -> None:
        self._server = server
        self._grace = grace

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=self._grace).wait()


class Service:
    """A service that is not listening yet. Raises StoreUnavailable, ServiceError, SettingsError, ExtraMissing."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """`clock` is by default this host's, which must then be right; a test has one of its own."""
        self._certificate = _certificate_of(settings)
        host, clock = clock is None, clock or SteadyClock()
        self.store = _sound_store(settings, clock, host=host)
        self._dual_control = settings.policies_dual_control
        issuers = _issuers_of(settings)
        self._itself = Caller(
            principal=SERVICE,
            origin=Origin(method="start-up"),
            exact=exact_principals(issuers()),
            stored_claims=settings.claims_to_store,
        )
        self.issuing = issuing_of(settings)
        if self.issuing is not None:
            _demand_keys(self.store, self.issuing)
        grants = GrantCache(self.store, clock=clock, bound=settings.bounded_staleness)
        recorder = Recorder(self.store, settings.audit_checks)
        answers = Recording(Caching(Deciding(encoded_decision), DecisionCache()), recorder)
        self.checker = Checker(self.store, grants, answers)
        self.searcher = Searcher(self.store, grants, recorder)
        self.open_requests = OpenRequests(grants, limit=settings.passing_streams)
        authenticator = _authenticator(settings, issuers(), clock)
        backend = Backend(
            store=self.store,
            authenticator=authenticator,
            grants=grants,
            checker=self.checker,
            searcher=self.searcher,
            past=PastAccess(self.store, recorder),
            follower=HeadFollower(self.store),
            streams=Streams(_stream_limits(settings)),
            issuing=self.issuing,
            unproved=UnauthenticatedCalls(self.store),
            resource=ProtectedResource(settings.resource, settings.public_grpc_address, lambda: authenticator.issuers),
            certificates=_client_certificates(settings, self._certificate, clock),
            stored_claims=settings.claims_to_store,
        )
        self._draining = backend.draining
        self._server = build_server(settings, backend)
        self._ext_proc_server = build_ext_proc_server(settings, backend, self.open_requests)
        self._parts = self._ordered(settings, backend, recorder, IssuerKeyKeeper(authenticator, issuers))
        self.gauges = self._gauges(settings, backend, recorder)

    def _ordered(self, settings: Settings, backend: Backend, recorder: Recorder, keys: IssuerKeyKeeper) -> list[_Part]:
        """Returns the parts in the order in which they start. They stop in the opposite one.

        So streams end first, then connections, and what calls need ends after them.
        """
        return [
            *((Tracing(settings),) if settings.traces else ()),
            backend.grants,
            recorder,
            backend.unproved,
            keys,
            Sweeper(
                self.store,
                interval=settings.sweep_interval,
                issuing=self.issuing,
                replays=settings.replay_retention,
            ),
            AuditCompactor(self.store),
            _retention(self.store, settings, self.issuing),
            *_checkpoints(self.store, settings, self.issuing),
            *(Deliverer(self.store, channel) for channel in channels_of(settings)),
            _Listening(self._server, grace=STOP_SECONDS),
            _Listening(self._ext_proc_server, grace=0),
            self.open_requests,
            backend.streams,
            backend.follower,
        ]

    def _gauges(self, settings: Settings, backend: Backend, recorder: Recorder) -> Parts:
        return Parts(
            store=self.store,
            grants=backend.grants,
            recorder=recorder,
            streams=backend.streams,
            open_requests=self.open_requests,
            authenticator=backend.authenticator,
            threads=[part for part in self._parts if isinstance(part, BackgroundThread)],
            transport=settings.transport,
        )

    def listen(self, address: Address) -> Address:
        """Binds a TCP address, with TLS if the settings name a certificate; port 0 takes a free one.

        Returns what is bound. Raises ServiceError.
        """
        return Address(host=address.host, port=_bind(self._server, str(address), self._certificate))

    def listen_unix(self, path: Path) -> None:
        """Binds a Unix socket that only this user can open, and the one beside it. Raises ServiceError."""
        for server, socket in ((self._server, path), (self._ext_proc_server, passing_socket(path))):
            socket.unlink(missing_ok=True)
            _bind(server, f"unix:{socket}")
            socket.chmod(0o600)

    def listen_passing(self, address: Address) -> Address:
        """Binds a TCP address as `listen` does, for proxies that have watched what passes. Raises ServiceError."""
        return Address(host=address.host, port=_bind(self._ext_proc_server, str(address), self._certificate))

    def start(self) -> None:
        """Starts all parts; calls are answered from then on."""
        gc.set_threshold(*_COLLECT_AFTER)
        for part in self._parts:
            part.start()

    def drain(self) -> None:
        """Has health say no from now on; calls are answered as before."""
        self._draining.set()

    def stop(self) -> None:
        """Ends the streams, lets the calls under way end for up to 5 s, then closes everything."""
        for part in reversed(self._parts):
            part.stop()
        self.store.close()

    def apply_policies(self, path: Path, *, only_if_empty: bool = False) -> None:
        """Applies a policy file without pruning; under dual control it is proposed, unless it is the first.

        Raises PolicyFileError, JitError.
        """
        proposed = policy_file.load(path)
        first = policies.is_empty(self.store)
        if only_if_empty and not first:
            return
        if self._dual_control and not first:
            applied = proposals.propose(
                self.store, self._itself, proposed, prune=False, comment=f"{path.name} at the start"
            )
        else:
            applied = policies.apply(self.store, self._itself, proposed, prune=False)
        changed = [change.name for change in applied.changes if change.type is not ChangeType.UNCHANGED]
        what = f"proposed {path} as {applied.proposal}" if applied.proposal else f"applied {path}"
        _log.info("%s: %s", what, ", ".join(changed) or "nothing changed")


def _sound_store(settings: Settings, clock: Clock, *, host: bool) -> Store:
    """Returns the store, whose schema this version may serve; `host`: the clock is this host's, and must be right."""
    store = open_store(settings, clock=clock)
    demand_schema(store)
    if newer := newer_schema(store.engine):
        _log.warning("%s", newer)
    if host:
        demand_clock(store, settings.longest_idle)
    return store


def _retention(store: Store, settings: Settings, issuing: Issuing | None) -> Retention:
    """Returns what forgets by the settings. Raises ServiceError."""
    try:
        return Retention(store, bounds_of(store, settings, issuing))
    except TokensOff as fault:
        raise ServiceError(str(fault)) from None


def _checkpoints(store: Store, settings: Settings, issuing: Issuing | None) -> tuple[_Part, ...]:
    """Returns what makes checkpoints by the settings, if they want any. Raises ServiceError."""
    try:
        how = checkpointing_by(settings, issuing)
    except TokensOff as fault:
        raise ServiceError(str(fault)) from None
    return () if how is None else (CheckpointKeeper(store, how),)


def _issuers_of(settings: Settings) -> Callable[[], Sequence[Issuer]]:
    """Returns what tells the issuers as they are now; a change of their file is seen at the next call."""
    if settings.issuers_file is None:
        return lambda: settings.issuers
    file = FreshFile(settings.issuers_file, lambda _: settings.issuers_now())
    return file.content


def _authenticator(settings: Settings, issuers: Sequence[Issuer], clock: Clock) -> Authenticator:
    return Authenticator(
        issuers,
        clock=clock,
        max_lifetime=settings.max_token_lifetime,
        max_bytes=settings.max_token_bytes,
    )


def _stream_limits(settings: Settings) -> StreamLimits:
    total = settings.watch_streams
    reserved = min(settings.watch_streams_reserved, total // 2)
    return StreamLimits(total, each=settings.watch_streams_per_principal, reserved=reserved)


def passing_socket(path: Path) -> Path:
    """Returns the socket beside a service's own at which Envoy has watched what passes: grpc-0.sock, grpc-0.passing."""
    return path.with_suffix(".passing")


def _certificate_of(settings: Settings) -> FreshCertificate | None:
    """Returns the certificate of the TCP ports, None where they have no TLS. Raises ServiceError."""
    if settings.tls is None:
        return None
    try:
        found = certificate.fresh(settings.tls)
    except ValueError as fault:
        raise ServiceError(str(fault)) from fault
    if (expires_at := found.content().expires_at) <= utc_now():
        _log.warning(
            "the certificate in %s has expired at %s, and no client will accept it", settings.tls.chain, expires_at
        )
    return found


def _client_certificates(settings: Settings, files: FreshCertificate | None, clock: Clock) -> ClientCertificates | None:
    if files is None or not settings.tls_principals:
        return None
    return ClientCertificates(files, settings.tls_principals, clock=clock)


def _bind(server: Server, address: str, files: FreshCertificate | None = None) -> int:
    try:
        if files is not None:
            return server.add_secure_port(address, tls.server_credentials(files))
        return server.add_insecure_port(address)
    except RuntimeError as fault:
        raise ServiceError(f"cannot listen on {address}: it is taken, or not an address of this machine") from fault


def issuing_of(settings: Settings) -> Issuing | None:
    """Returns how tokens of grants are issued; None if no issuer is set.

    Raises ServiceError for a key file that cannot be used.
    """
    if not settings.token_issuer:
        return None
    ring = KeyRing(sealing_keys_of(settings))
    rotation = Rotation(every=settings.token_key_rotation, ahead=settings.token_key_overlap)
    return Issuing(issuer=settings.token_issuer, ring=ring, rotation=rotation, cap=settings.max_grant_token_lifetime)


def migrate(settings: Settings, *, keys: SealingKeys | None = None) -> None:
    """Brings the database to the schema of this version, and seals the rows that were written before there were seals.

    The rows are trusted as they are then, so this happens once; a note in the data directory says that it has. `keys`
    are by default those of the settings. Raises ServiceError, StoreUnavailable.
    """
    migrate_database(settings.store_url)
    note = settings.data_dir / NOTE
    with closing(open_store(settings, keys=keys)) as store:
        if store.is_unsealed():
            if note.exists():
                raise ServiceError(
                    f"the database has lost its seals, which somebody took away; {note} says that it had them"
                )
            _log.warning("sealed what %d rows say from now on", store.seal_existing())
        if made := store.audit_partitions.make_ahead(room=_PARTITIONED_AHEAD):
            _log.info("made %d partitions for the records of the audit log to come", made)
        drop_partitions(store)
    note.touch()


def demand_schema(store: Store) -> None:
    """Raises ServiceError, and closes the store, if this version may not serve the database's schema."""
    if fault := schema_fault(store.engine):
        store.close()
        raise ServiceError(fault)


def demand_clock(store: Store, longest_idle: timedelta) -> None:
    """Raises ServiceError, and closes the store, if this host's clock cannot be right, by the database's or the log."""
    try:
        now, seen = utc_now(), store.clocks()
        fault = fault_of_clock(now, seen.database, seen.newest, longest_idle)
    except StoreUnavailable:
        store.close()
        raise
    if fault:
        store.close()
        raise ServiceError(fault)


def fault_of_clock(now: datetime, database: datetime | None, newest: datetime | None, longest_idle: timedelta) -> str:
    """Returns what is wrong with this host's clock, by the database's or the newest record; nothing if right."""
    if database is not None and abs(now - database) > MAX_STEP:
        way = "ahead of" if now > database else "behind"
        off = timedelta(seconds=round(abs(now - database).total_seconds()))
        return f"this host's clock is {off} {way} the database's; set it right (NTP)"
    if database is None and newest is not None and now - newest > longest_idle:
        return (
            f"this host's clock is {(now - newest).days} days ahead of the newest record, and what has ended by it has "
            "ended for good; set the clock right, or, where the service did stand still for so long, set "
            f"JIT_LONGEST_IDLE={(now - newest).days + 1}d for this start"
        )
    return ""


def _demand_keys(store: Store, issuing: Issuing) -> None:
    """Makes the first key, and shows that this host can open those that are there."""
    signing_keys.maintain(store, issuing)
    try:
        signing_keys.key_set(store, issuing)
    except KeysUnavailable as fault:
        raise ServiceError(
            f"{fault}: put back the key file that the database was used with, the same on every host (JIT_KEY_FILE); "
            "if it is lost, `jit-service keys rotate --compromised` makes a new signing key"
        ) from fault


def open_store(settings: Settings, *, clock: Clock = utc_now, keys: SealingKeys | None = None) -> Store:
    """Returns the store, whose commits leave notifications for the receivers of the settings.

    `keys` are by default those of the settings. Raises ServiceError, StoreUnavailable.
    """
    return Store(
        settings.store_url,
        clock=clock,
        subscriptions=subscriptions_of(settings.routes, settings.notifications),
        routes=routes_of(settings.routes, settings.notifications),
        keys=sealing_keys_of(settings) if keys is None else keys,
    )


__all__ = ["Service", "ServiceError", "StoreUnavailable", "utc_now"]
