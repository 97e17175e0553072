"""One consistent state of the store, and all that can be read of it."""

from __future__ import annotations

from jit_service.storage.readers.audit import AuditReader
from jit_service.storage.readers.delegations import DelegationReader
from jit_service.storage.readers.figures import FigureReader
from jit_service.storage.readers.forgettable import ForgettableReader
from jit_service.storage.readers.grant_changes import GrantChangeReader
from jit_service.storage.readers.grant_lists import GrantListReader
from jit_service.storage.readers.locks import LockReader
from jit_service.storage.readers.notifications import NotificationReader
from jit_service.storage.readers.past import PastReader
from jit_service.storage.readers.policies import PolicyReader
from jit_service.storage.readers.proposals import ProposalReader
from jit_service.storage.readers.replays import ReplayReader
from jit_service.storage.readers.resealing import ResealReader
from jit_service.storage.readers.signals import SignalReader
from jit_service.storage.readers.tokens import TokenReader


class Snapshot(
    ResealReader,
    ForgettableReader,
    GrantListReader,
    PastReader,
    GrantChangeReader,
    DelegationReader,
    LockReader,
    PolicyReader,
    ProposalReader,
    SignalReader,
    TokenReader,
    AuditReader,
    ReplayReader,
    NotificationReader,
    FigureReader,
):
    """Everything that can be read in one transaction: each reader's methods, on one state.

    Why they are inherited is in docs/adr/0045-one-reader-per-noun.md.
    """
