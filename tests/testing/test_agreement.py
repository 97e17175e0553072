"""The in-memory service decides as the real one: the same story is told to both, and both are asked the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jitaccess import CheckItem, CheckReason, Decision, JitClient, JitError
from jitaccess.testing import MemoryService
from tests.examples import examples
from tests.world import GRANTS, LOCKS, POLICIES, Grpc, Story, World

MINUTE = timedelta(minutes=1)
RESOURCES = ("eu", "us", "eu/main")
PATTERNS = ("eu", "us", "*", "**", "eu/*")
ACTIONS = ("read", "rows.read")
ACTION_PATTERNS = ("read", "rows.*", "**")
# The one that ends last is told of; of the others, which one nobody promises.
_NAMES_ITS_GRANT = (CheckReason.ALLOWED, CheckReason.EXPIRED, CheckReason.REVOKED, CheckReason.RELEASED)

Step = tuple[Any, ...]


class Both:
    """One story, told to the real service and to the one in memory, by the same clock."""

    def __init__(self, world: World) -> None:
        self.story = Story(world, Grpc(world))
        self.memory = MemoryService(world.clock)
        self.grants: list[tuple[str, str]] = []
        self.locks: list[tuple[str, str]] = []
        self.denies = 0
        self._policy("auto", steps=None)
        self._policy("asked")
        self.client = JitClient(str(world.grpc), token=lambda: world.token(self.story.gateway))

    def _policy(self, suffix: str, **changes: Any) -> None:
        policy = self.story.create_policy(suffix, actions=["**"], **changes)
        self.memory.requestable(policy.name, list(policy.resources), ["**"], groups=[self.story.engineers])

    def _under(self, resource: str) -> str:
        return f"database/{self.story.id}/{resource}"

    def tell(self, step: Step) -> None:
        getattr(self, f"tell_{step[0]}")(*step[1:])

    def tell_grant(self, resource: str, action: str, minutes: int, delay: int) -> None:
        story, policy = self.story, f"policies/p{self.story.id}-auto"
        start = story.world.clock() + delay * MINUTE
        later = {"startTime": start.isoformat().replace("+00:00", "Z")} if delay else {}
        wanted = {"resources": [self._under(resource)], "actions": [action], "duration": f"{60 * minutes}s"}
        real = self._asked(policy=policy, **wanted, **later)
        if real is None:
            return
        memory = self.memory.grant(
            story.alice.principal,
            self._under(resource),
            action,
            duration=minutes * MINUTE,
            start_time=start if delay else None,
            groups=story.alice.groups,
        )
        self.grants.append((real.name, memory.name))

    def _asked(self, **wanted: Any) -> Any:
        """Asks the real service. Who may ask and approve is the test's own word in memory, so a no there is skipped."""
        outcome = self.story.call(self.story.alice, GRANTS + "RequestGrant", wanted)
        assert outcome.code == "OK" or outcome.reason == "DENIED_BY_POLICY", outcome
        return outcome.message

    def tell_ask(self, resource: str, action: str, minutes: int) -> None:
        wanted = {"resources": [self._under(resource)], "actions": [action], "duration": f"{60 * minutes}s"}
        real = self._asked(policy=f"policies/p{self.story.id}-asked", **wanted)
        if real is None:
            return
        memory = self.memory.request(
            self.story.alice.principal,
            self._under(resource),
            action,
            duration=minutes * MINUTE,
            groups=self.story.alice.groups,
        )
        self.grants.append((real.name, memory.name))

    def tell_approve(self, index: int) -> None:
        self._decide(index, self.story.bob, "ApproveGrant", self.memory.approve)

    def tell_refuse(self, index: int) -> None:
        self._decide(index, self.story.bob, "DenyGrant", self.memory.deny_request)

    def tell_revoke(self, index: int) -> None:
        self._decide(index, self.story.admin, "RevokeGrant", self.memory.revoke)

    def tell_release(self, index: int) -> None:
        self._decide(index, self.story.alice, "ReleaseGrant", self.memory.release)

    def _decide(self, index: int, person: Any, rpc: str, in_memory: Any) -> None:
        if not self.grants:
            return
        real, memory = self.grants[index % len(self.grants)]
        outcome = self.story.call(person, GRANTS + rpc, {"name": real, "comment": "so be it"})
        if outcome.reason == "DENIED_BY_POLICY":
            return
        try:
            in_memory(memory)
            done = True
        except JitError:
            done = False
        assert (outcome.code == "OK") is done, (outcome, rpc)

    def tell_deny(self, whom: str, resource: str, action: str) -> None:
        story = self.story
        self.denies += 1
        name = f"policies/no{self.denies}-{story.id}"
        named = {
            "alice": {"principals": [story.alice.principal]},
            "bob": {"principals": [story.bob.principal]},
            "engineers": {"groups": [story.engineers]},
            "owners": {"groups": [story.owners]},
        }[whom]
        policy = {"name": name, "deny": True, "eligible": named}
        policy |= {"resources": [self._under(resource)], "actions": [action]}
        story.must(story.admin, POLICIES + "CreatePolicy", {"policy": policy})
        self.memory.deny(name, self._under(resource), action, **named)

    def tell_undeny(self) -> None:
        if self.denies:
            name = f"policies/no{self.denies}-{self.story.id}"
            self.story.must(self.story.admin, POLICIES + "DeletePolicy", {"name": name})
            self.memory.remove(name)
            self.denies -= 1

    def tell_lock(self, whom: str, minutes: int) -> None:
        person = {"alice": self.story.alice, "bob": self.story.bob}[whom]
        ends = (self.story.world.clock() + minutes * MINUTE).isoformat().replace("+00:00", "Z")
        real = self.story.locks(person, expireTime=ends)
        self.locks.append((real.name, self.memory.lock(person.principal, duration=minutes * MINUTE)))

    def tell_unlock(self) -> None:
        if self.locks:
            real, memory = self.locks.pop()
            # One that is over already is not lifted.
            self.story.call(self.story.responder, LOCKS + "DeleteLock", {"name": real})
            self.memory.unlock(memory)

    def tell_pass(self, minutes: int) -> None:
        self.story.world.clock.advance(minutes * MINUTE)

    def agree(self) -> None:
        """Raises AssertionError where the two answer differently."""
        subjects = (self.story.alice.principal, self.story.bob.principal)
        items = [
            CheckItem(subject, action, self._under(resource))
            for subject in subjects
            for action in ACTIONS
            for resource in RESOURCES
        ]
        for item, real, memory in zip(
            items, self.client.check_many(items), self.memory.client.check_many(items), strict=True
        ):
            assert self._told(memory, 1) == self._told(real, 0), item

    def _told(self, decision: Decision, which: int) -> tuple[Any, ...]:
        """What it says. Of grants that end together either may be named, so they are told apart by their instants."""
        assert decision.grant in {"", *(pair[which] for pair in self.grants)}
        message = decision.message.replace(decision.grant, "grants/it") if decision.grant else decision.message
        names_it = decision.reason in _NAMES_ITS_GRANT
        return (
            decision.allowed,
            decision.reason,
            decision.expire_time,
            decision.requestable_policies,
            bool(decision.grant),
            message if names_it else "",
            decision.check_time,
        )


indexes = st.integers(0, 3)
minutes = st.sampled_from((1, 2, 3, 5, 7, 11, 13, 17, 19, 23))
steps = st.one_of(
    st.tuples(
        st.just("grant"),
        st.sampled_from(PATTERNS),
        st.sampled_from(ACTION_PATTERNS),
        minutes,
        st.sampled_from((0, 0, 0, 2)),
    ),
    st.tuples(st.just("ask"), st.sampled_from(PATTERNS), st.sampled_from(ACTION_PATTERNS), minutes),
    st.tuples(st.sampled_from(("approve", "refuse", "revoke", "release")), indexes),
    st.tuples(
        st.just("deny"),
        st.sampled_from(("alice", "engineers", "owners", "bob")),
        st.sampled_from(PATTERNS),
        st.sampled_from(ACTION_PATTERNS),
    ),
    st.tuples(st.just("undeny")),
    st.tuples(st.just("pass"), st.sampled_from((1, 2, 5, 480))),
)
LIFE: list[Step] = [
    ("ask", "eu", "read", 5),
    ("approve", 0),
    ("pass", 5),
    ("grant", "*", "**", 7, 2),
    ("pass", 2),
    ("deny", "engineers", "eu", "read"),
    ("undeny",),
    ("revoke", 1),
    ("grant", "eu", "read", 3, 0),
    ("release", 2),
    ("ask", "us", "read", 5),
    ("pass", 480),
]


@settings(
    max_examples=examples(14),
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(story=st.lists(steps, min_size=3, max_size=10))
@example(story=LIFE)
def test_memory_and_service_answer_the_same_at_every_step(world: World, story: list[Step]) -> None:
    both = Both(world)
    with both.client:
        both.agree()
        for step in story:
            both.tell(step)
            both.agree()


ODD = [
    *("", "eu", "database", "database/", "database//eu", "database/../eu", "database/.", "database/*", "database/**"),
    *("Database/eu", "database/e u", "database/e%75", "database/a\\b", "database/a\n", "d" * 1030, "database/a.b"),
    *("database/" + "a/" * 64, "database/..a", "-database/a", "database/a#b", "database/{a}", "/database/a"),
    *(
        "database/ a",
        "database/a ",
        "database/a  b",
        "database/a\\..\\b",
        "database/%2e",
        "database/100%",
        "http/h/%41",
    ),
    *("http/h/a%2Fb", 'database/"a"', "database/[a]?b|c"),
]
ODD_ACTIONS = (
    *("", ".", "a.", ".a", "a..b", "*", "a.*", "a b", "a/b", "/a", "a/", "a//b", "a:b", "a.b/c:d", "a%", "read-all"),
    *("A.b", "a" * 257, ".".join("a" * 65)),
)
ODD_SUBJECTS = [
    *("", "alice", "user:", ":alice", "group:a", "user:a b", "user:..", "user:a/b", "user:a*", "user:" + "a" * 252),
    *("user: a", "user:a ", "user:a  b", "user:a|b\\c#d", "user:a%41", "user:*", "user:{a}[b]"),
    *("user:a:b", "service:a", "USER:a", "user:a\n"),
]
QUESTIONS = (
    [("user:a", "read", resource) for resource in ODD]
    + [("user:a", action, "database/eu") for action in ODD_ACTIONS]
    + [(subject, "read", "database/eu") for subject in ODD_SUBJECTS]
)


@pytest.fixture
def clients(world: World) -> Iterator[tuple[JitClient, JitClient, JitClient]]:
    """The real service's, the one in memory, and the one in memory over gRPC."""
    story, memory = Story(world, Grpc(world)), MemoryService(world.clock)
    with JitClient(str(world.grpc), token=lambda: world.token(story.gateway)) as real, memory.serving() as address:
        with JitClient(address, token="any") as remote:
            yield real, memory.client, remote


def test_what_the_service_refuses_is_refused_in_memory_by_the_same_field(clients: tuple[JitClient, ...]) -> None:
    def told(client: JitClient, question: tuple[str, str, str]) -> object:
        try:
            return client.check(*question).reason
        except JitError as fault:
            return type(fault), fault.reason, [violation.field for violation in fault.field_violations]

    for question in QUESTIONS:
        real, memory, remote = (told(client, question) for client in clients)
        assert memory == remote == real, question


def test_a_batch_of_odd_items_is_answered_item_by_item(clients: tuple[JitClient, ...]) -> None:
    def told(client: JitClient) -> list[object]:
        answers = client.check_many([CheckItem(*question) for question in QUESTIONS])
        return [
            (answer.allowed, answer.reason, answer.error and (answer.error.reason, answer.error.code))
            for answer in answers
        ]

    real, memory, remote = (told(client) for client in clients)
    assert memory == remote == real


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_of_too_few_or_too_many_is_refused(clients: tuple[JitClient, ...], count: int) -> None:
    for client in clients:
        with pytest.raises(JitError) as refused:
            client.check_many([CheckItem("user:a", "read", "database/eu")] * count)
        assert [violation.field for violation in refused.value.field_violations] == ["items"]


def test_a_revision_to_come_is_refused(clients: tuple[JitClient, ...]) -> None:
    for client in clients:
        for revision in (-1, 10**9):
            with pytest.raises(JitError) as refused:
                client.check("user:a", "read", "database/eu", min_revision=revision)
            assert [violation.field for violation in refused.value.field_violations] == ["min_revision"]


def test_locks_stand_and_end_alike(world: World) -> None:
    both = Both(world)
    for step in (
        ("grant", "eu", "read", 23, 0),
        ("lock", "alice", 5),
        ("pass", 2),
        ("unlock",),
        ("lock", "bob", 1),
        ("lock", "alice", 2),
        ("pass", 1),
        ("pass", 1),
    ):
        both.tell(step)
        both.agree()
