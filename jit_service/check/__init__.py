"""Answers checks from an index in memory that is as fresh as the caller demands, and records the answers."""

from jit_service.check.barrier import Barrier
from jit_service.check.batcher import Batcher
from jit_service.check.decision_cache import CachedDecision, DecisionCache
from jit_service.check.grant_cache import MAX_PAST, GrantCache
from jit_service.check.index import Index, View
from jit_service.check.recorder import AuditMode, Recorder

__all__ = [
    "MAX_PAST",
    "AuditMode",
    "Barrier",
    "Batcher",
    "CachedDecision",
    "DecisionCache",
    "GrantCache",
    "Index",
    "Recorder",
    "View",
]
