"""The audit log's hash chain: previous hash, seq and the exact bytes, so that no change goes unseen (I4)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.audit.chain import GENESIS, link


def chained(payloads: list[bytes], first: int = 1) -> list[bytes]:
    hashes, previous = [], GENESIS
    for seq, payload in enumerate(payloads, start=first):
        previous = link(previous, seq, payload)
        hashes.append(previous)
    return hashes


def test_the_chain_begins_with_32_zero_bytes() -> None:
    assert bytes.fromhex("00" * 32) == GENESIS


def test_a_link_is_sha256_over_previous_hash_seq_and_payload() -> None:
    """Written out, so that a verifier in any language can be built from it."""
    expected = hashlib.sha256(b"\x00" * 32 + b"\x00\x00\x00\x00\x00\x00\x01\x02" + b'{"a":1}').digest()

    assert link(GENESIS, 258, b'{"a":1}') == expected


def test_each_of_previous_hash_seq_and_payload_changes_the_link() -> None:
    links = {
        link(GENESIS, 1, b"a"),
        link(b"\x01" * 32, 1, b"a"),
        link(GENESIS, 2, b"a"),
        link(GENESIS, 1, b"b"),
        link(GENESIS, 1, b""),
    }

    assert len(links) == 5


@pytest.mark.parametrize("seq", [-1, 2**64])
def test_a_seq_that_does_not_fit_has_no_link(seq: int) -> None:
    with pytest.raises(OverflowError):
        link(GENESIS, seq, b"a")


logs = st.lists(st.binary(max_size=8), min_size=2, max_size=6)


@given(logs, st.data())
def test_an_edit_changes_every_hash_from_there_on(payloads: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(payloads) - 1))
    edited = [*payloads[:at], payloads[at] + b"!", *payloads[at + 1 :]]

    before, after = chained(payloads), chained(edited)

    assert before[:at] == after[:at]
    assert all(left != right for left, right in zip(before[at:], after[at:], strict=True))


@given(logs, st.data())
def test_a_deletion_is_seen_even_among_equal_records(payloads: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(payloads) - 2))
    remaining = payloads[:at] + payloads[at + 1 :]

    assert chained(payloads)[-1] != chained(remaining)[-1]


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=6, unique=True), st.data())
def test_a_change_of_order_is_seen(payloads: list[bytes], data: st.DataObject) -> None:
    order = data.draw(st.permutations(payloads).filter(lambda other: list(other) != payloads))

    assert chained(payloads)[-1] != chained(list(order))[-1]
