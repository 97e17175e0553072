"""What Check judges by, held in memory and as fresh as it has to be; and the records of its answers."""

from jit_service.check.barrier import Barrier
from jit_service.check.batcher import Combining
from jit_service.check.decision_cache import Judged, Judgements
from jit_service.check.grant_cache import MAX_PAST, LiveView
from jit_service.check.index import Index, Sight
from jit_service.check.recorder import AuditMode, Recorder

__all__ = [
    "MAX_PAST",
    "AuditMode",
    "Barrier",
    "Combining",
    "Index",
    "Judged",
    "Judgements",
    "LiveView",
    "Recorder",
    "Sight",
]
