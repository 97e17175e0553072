"""Pages as large as any client takes: gRPC's take 4 MiB unless told otherwise."""

from __future__ import annotations

from pathlib import Path

from jit_service.rpc.message_size import MAX_PAGE_BYTES, within_bytes
from jitaccess.v1 import policy_pb2
from tests.conftest import Clock
from tests.world import POLICIES, Grpc, Story, running_world

ROWS = 60


def listed(count: int, size: int) -> policy_pb2.ListPoliciesResponse:
    return policy_pb2.ListPoliciesResponse(
        policies=[policy_pb2.Policy(name=f"policies/{index}", display_name="x" * size) for index in range(count)]
    )


class Lists:
    """Stands for a servicer: its pages are as long as asked for."""

    def __init__(self, size: int) -> None:
        self.asked: list[int] = []
        self._size = size

    @within_bytes
    def ListPolicies(self, request: policy_pb2.ListPoliciesRequest, _: object) -> policy_pb2.ListPoliciesResponse:
        self.asked.append(request.page_size)
        return listed(request.page_size, self._size)


def test_a_page_that_is_small_enough_is_left_as_it_is() -> None:
    lists = Lists(size=1000)

    assert len(lists.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=1000), None).policies) == 1000
    assert lists.asked == [1000]


def test_a_page_that_is_too_large_ends_early() -> None:
    lists = Lists(size=10_000)

    page = lists.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=1000, page_token="t"), None)

    assert MAX_PAGE_BYTES * 0.99 < page.ByteSize() <= MAX_PAGE_BYTES
    assert len(lists.asked) == 2


def test_one_that_is_too_large_by_itself_is_a_page_of_its_own() -> None:
    lists = Lists(size=MAX_PAGE_BYTES)

    assert len(lists.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=3), None).policies) == 1


def test_policies_of_many_patterns_are_listed_with_nothing_left_out(tmp_path: Path) -> None:
    """Through the real service, whose every page a client takes that was told nothing (C32)."""
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        patterns = [f"database/{story.id}/{'t' * 900}{index}" for index in range(100)]
        names = {story.create_policy(f"long-{index}", resources=patterns).name for index in range(ROWS)}

        found: set[str] = set()
        token, pages = "", 0
        while token or not pages:
            asked = {"pageSize": 1000, "pageToken": token}
            page = story.must(story.admin, POLICIES + "ListPolicies", asked)
            assert page.ByteSize() <= MAX_PAGE_BYTES
            found |= {policy.name for policy in page.policies}
            token, pages = page.next_page_token, pages + 1

    assert found == names
    assert pages > 1
