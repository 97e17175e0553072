"""A log continues a checkpoint, or it is told where it first does not."""

from __future__ import annotations

import pytest

from jit_service.domain.audit.checkpoint import Checkpoint, Fault, fault_in

SINCE = Checkpoint(event_count=7, head_hash=b"seven")


@pytest.mark.parametrize("count", [7, 8])
def test_a_log_that_has_the_checkpoints_record_continues_it(count: int) -> None:
    assert fault_in(count, b"seven", since=SINCE) is None


def test_a_shorter_log_is_wrong_where_it_ends() -> None:
    assert fault_in(6, None, since=SINCE) == Fault(7, "the log has 6 records; the checkpoint says 7")


@pytest.mark.parametrize("there", [b"other", None])
def test_a_log_with_another_record_there_is_wrong_there(there: bytes | None) -> None:
    fault = fault_in(9, there, since=SINCE)

    assert fault == Fault(7, "record 7 or one before it is not as the checkpoint says")
