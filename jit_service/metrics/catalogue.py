"""All metrics of the service. docs/metrics.md is made of this list.

Names follow https://prometheus.io/docs/practices/naming/. A label never has a principal, a resource, an address or a
text that somebody wrote: a scrape is read by many, and is kept for long.
"""

from __future__ import annotations

from typing import Final

from jit_service.metrics.families import Across, Counter, Family, Gauge, Histogram, Values

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_WAITS: Final = (10, 60, 300, 900, 1800, 3600, 4 * 3600, 8 * 3600, 24 * 3600, 3 * 86400, 7 * 86400)

# Calls.
CALLS: Final = Counter(
    name="jit_calls",
    help="Calls that were answered, by method, gRPC status and reason; a stream counts when it ends.",
    labels=("method", "code", "reason"),
)
CALL_SECONDS: Final = Histogram(
    name="jit_call_seconds",
    help="From when a unary call was read until its answer was given.",
    labels=("method",),
    bounds=_FAST,
)
REFUSED_SIGN_INS: Final = Counter(
    name="jit_refused_sign_ins",
    help="Calls whose token proved nobody, by cause.",
    labels=("cause",),
)
STREAMS: Final = Gauge(name="jit_open_streams", help="Watch streams that are open.")
PASSING: Final = Gauge(
    name="jit_passing_requests", help="Open requests at other Envoys that end when their grant ends."
)

# Checks.
DECISIONS: Final = Counter(
    name="jit_decisions",
    help="Decisions of checks, by result (allowed or denied) and reason.",
    labels=("result", "reason"),
)
BARRIER_SECONDS: Final = Histogram(
    name="jit_barrier_seconds",
    help="Looks at the store for commits, one of which serves all strong checks that wait.",
    bounds=_FAST,
)
UNRECORDED: Final = Gauge(name="jit_check_records_waiting", help="Calls whose records of checks wait for their commit.")
INDEX_GRANTS: Final = Gauge(
    name="jit_active_grants",
    help="Grants that are scheduled or active, by the index that checks are answered from.",
    across=Across.MAX,
)
INDEX_AGE: Final = Gauge(
    name="jit_index_age_seconds",
    help="How long ago the index was last seen to have all commits, in the process where it is longest.",
    across=Across.MAX,
)

# Store.
COMMIT_SECONDS: Final = Histogram(
    name="jit_commit_seconds",
    help="Commits: of `write` transactions from commit to its end, of records of `checks` from their turn to the end.",
    labels=("kind",),
    bounds=_FAST,
)
COMMIT_SIZE: Final = Histogram(
    name="jit_commit_size",
    help="How many one commit served: transactions (`write`), or records (`checks`).",
    labels=("kind",),
    bounds=_SIZES,
)
STORE_ERRORS: Final = Counter(
    name="jit_store_errors",
    help="Faults of the store, by kind.",
    labels=("kind",),
)
CONNECTIONS: Final = Gauge(
    name="jit_store_connections",
    help="Connections to the database in the pools, by state (in_use or idle).",
    labels=("state",),
)
CONNECTIONS_MOST: Final = Gauge(name="jit_store_connections_max", help="How many connections the pools may have.")
STORE_UP: Final = Gauge(
    name="jit_store_up",
    help="1 if the last read of the figures below succeeded, else 0; they are then as they were before.",
    across=Across.MIN,
)
FIGURES_AGE: Final = Gauge(
    name="jit_store_figures_age_seconds", help="How old the figures are that are read from the store."
)
STORE_BYTES: Final = Gauge(name="jit_store_bytes", help="Size of the database.")
AUDIT_RECORDS: Final = Gauge(name="jit_audit_records", help="Records in the audit log, by the seq of its last one.")
UNMERGED: Final = Gauge(
    name="jit_audit_unmerged_records",
    help="Records that are not merged into pieces yet; some thousands are usual.",
)
EVENTS: Final = Counter(
    name="jit_events",
    help="Events that were committed to the audit log, by type; without checks, which are decisions.",
    labels=("type",),
)

# Grants.
PENDING: Final = Gauge(
    name="jit_pending_requests",
    help="Requests for access that wait for a decision, by policy; `other` are those beyond the 100 largest.",
    labels=("policy",),
)
OLDEST_PENDING: Final = Gauge(
    name="jit_pending_oldest_seconds",
    help="How long the oldest of them has waited.",
    labels=("policy",),
)
PENDING_EXTENSIONS: Final = Gauge(
    name="jit_pending_extensions", help="Requests for more time that wait for a decision."
)
DECISION_WAIT: Final = Histogram(
    name="jit_decision_wait_seconds",
    help="How long requests waited for their decision, by what it was; those that no reviewer decides are left out.",
    labels=("outcome",),
    bounds=_WAITS,
)
ENDS: Final = Counter(name="jit_grant_ends", help="Grants and requests that ended, by kind.", labels=("kind",))
REVIEWS_OWED: Final = Gauge(
    name="jit_reviews_owed",
    help="Break-glass uses that nobody has reviewed, by whether the review is overdue.",
    labels=("overdue",),
)
LOCKS: Final = Gauge(name="jit_locks", help="Locks that are neither lifted nor over.")

# Work in the background.
EXPIRY_LAG: Final = Gauge(
    name="jit_expiry_lag_seconds",
    help="How long the earliest end is over that the sweeper has not recorded; access ended in time all the same.",
)
OUTBOX: Final = Gauge(
    name="jit_outbox_notifications",
    help="Notifications that are not delivered, by receiver and state (waiting or given_up).",
    labels=("receiver", "state"),
)
OUTBOX_LAG: Final = Gauge(
    name="jit_outbox_oldest_seconds",
    help="How long the oldest notification has waited that is not given up.",
    labels=("receiver",),
)
DELIVERIES: Final = Counter(
    name="jit_notification_attempts",
    help="Attempts to deliver, by receiver and outcome (delivered, failed or given_up).",
    labels=("receiver", "outcome"),
)
RUNS: Final = Counter(
    name="jit_background_runs",
    help="Rounds of the threads in the background, by outcome (done or failed).",
    labels=("thread", "outcome"),
)
LAST_RUN: Final = Gauge(
    name="jit_background_last_success_timestamp_seconds",
    help="When a round last succeeded, in the process where that is longest ago.",
    labels=("thread",),
    across=Across.MIN,
)
SPANS: Final = Counter(
    name="jit_trace_spans",
    help="Spans of traces, by outcome: exported, failed (the collector did not take them) or dropped (too many wait, "
    "or too many calls began in one second).",
    labels=("outcome",),
)

# Tokens and keys.
TOKENS: Final = Counter(name="jit_tokens_issued", help="Tokens of grants that were issued.")
KEY_AGE: Final = Gauge(name="jit_signing_key_age_seconds", help="How long the current key has signed tokens.")
ISSUER_KEYS: Final = Gauge(
    name="jit_issuer_keys",
    help="Keys that are known of an issuer of callers' tokens; at 0 nobody of it can call.",
    labels=("issuer",),
    across=Across.MIN,
)
ISSUER_KEYS_AGE: Final = Gauge(
    name="jit_issuer_keys_age_seconds",
    help="How long ago an issuer's keys were last fetched, or found unchanged in their file.",
    labels=("issuer",),
    across=Across.MAX,
)

# Processes.
WORKERS: Final = Gauge(name="jit_processes", help="Processes that answer calls.")
WORKER_ENDS: Final = Counter(name="jit_worker_ends", help="Workers that ended by themselves and were replaced.")
CPU: Final = Counter(name="jit_process_cpu_seconds", help="CPU that the processes have used.")
MEMORY: Final = Gauge(name="jit_process_resident_memory_bytes", help="Memory that the processes have in use.")
BUILD: Final = Gauge(
    name="jit_build_info",
    help="1, with the version, the transport and the kind of database as labels.",
    labels=("version", "transport", "database"),
    across=Across.MAX,
)

FAMILIES: Final[tuple[Family, ...]] = tuple(value for value in globals().values() if isinstance(value, Family))
"""All of them, in the order above."""


def counted() -> Values:
    """Returns what this process has counted."""
    return {family.name: family.samples() for family in FAMILIES if isinstance(family, Counter | Histogram)}
