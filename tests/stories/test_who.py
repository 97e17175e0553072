"""Who it is, over the real service, with tokens as an identity provider makes them: people known by their e-mail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.caller import LEFT_OUT
from tests.conftest import Clock
from tests.rpc.tokens import DROP, Forge
from tests.world import ACCESS, GRANTS, LOCKS, POLICIES, Grpc, Outcome, Story, World, running_world


@dataclass
class Office(Story):
    """A story in which people bring tokens of a provider of their own."""

    forge: Forge = field(kw_only=True)

    def brings(self, who: str, method: str, body: dict[str, Any], **claims: Any) -> Outcome:
        """Calls with a token of who has the name at the provider, whatever it else says."""
        usual = {"sub": f"00u-{who}-{self.id}", "email": self.mail(who), "groups": [self.engineers]}
        token = self.forge.token(self.world.clock(), **(usual | claims))
        return self.surface.call(method, body, token=token)

    def mail(self, who: str) -> str:
        return f"{who}-{self.id}@example.com"

    def user(self, who: str) -> str:
        return f"user:{self.mail(who)}"

    def wants(self, **changes: Any) -> dict[str, Any]:
        return {"resources": [self.resource], "actions": ["read"]} | changes


@pytest.fixture(scope="module")
def offices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Forge]]:
    directory: Path = tmp_path_factory.mktemp("office")
    forge = Forge(directory, name="https://idp.example.com")
    issuer = forge.issuer(principal_claim="email", principal_prefix="user:")
    with running_world(directory, Clock(), f"sqlite:///{directory / 'jit.db'}", issuers=(issuer,)) as world:
        yield world, forge


@pytest.fixture
def office(offices: tuple[World, Forge]) -> Office:
    world, forge = offices
    return Office(world, Grpc(world), forge=forge)


# Groups that are left out

LEFT_OUT_CLAIMS: dict[str, dict[str, Any]] = {
    "a pointer": {
        "groups": DROP,
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.example.com/groups"}},
    },
    "a sign": {"groups": DROP, "hasgroups": True},
}
left_out = pytest.mark.parametrize("claims", LEFT_OUT_CLAIMS.values(), ids=LEFT_OUT_CLAIMS)


def forbid(office: Office, *, groups: list[str]) -> None:
    deny = {"name": f"policies/p{office.id}-deny", "deny": True, "eligible": {"groups": groups}}
    document = deny | {"resources": [f"database/{office.id}/**"], "actions": ["**"]}
    office.must(office.admin, POLICIES + "CreatePolicy", {"policy": document})


@left_out
def test_nobody_gets_more_by_groups_that_the_token_leaves_out(office: Office, claims: dict[str, Any]) -> None:
    office.create_policy(eligible={"principals": [office.user("alice")]}, steps=[])
    contractors = f"contractors-{office.id}"
    forbid(office, groups=[contractors])

    listed = office.brings("alice", GRANTS + "RequestGrant", office.wants(), groups=[contractors])
    unlisted = office.brings("alice", GRANTS + "RequestGrant", office.wants(), **claims)
    known = office.brings("alice", GRANTS + "RequestGrant", office.wants())

    assert (listed.reason, unlisted.reason, known.code) == ("DENIED_BY_POLICY", "DENIED_BY_POLICY", "OK")
    assert LEFT_OUT in unlisted.text
    assert LEFT_OUT not in listed.text


@left_out
def test_groups_that_the_token_leaves_out_permit_nothing_and_the_refusal_says_so(
    office: Office, claims: dict[str, Any]
) -> None:
    office.create_policy()

    refused = office.brings("alice", GRANTS + "RequestGrant", office.wants(), **claims)

    assert refused.reason == "NOT_ELIGIBLE"
    assert LEFT_OUT in refused.text
    (record,) = office.audit(f'principal = "{office.user("alice")}"')
    assert record.groups_left_out
    assert not record.groups


@left_out
def test_a_check_about_a_grant_that_was_asked_for_so_is_denied_by_any_group(
    office: Office, claims: dict[str, Any]
) -> None:
    office.create_policy(eligible={"principals": [office.user("alice")]}, steps=[])
    asked = office.brings("alice", GRANTS + "RequestGrant", office.wants(), **claims)
    assert office.check(subject=office.user("alice")).allowed
    forbid(office, groups=[f"contractors-{office.id}"])

    by_the_gateway = office.check(subject=office.user("alice"))
    question = office.question(subject=office.user("alice"))
    by_alice = office.brings("alice", ACCESS + "CheckAccess", question, **claims).message

    assert asked.code == "OK"
    assert not by_the_gateway.allowed
    assert not by_alice.allowed
    assert LEFT_OUT in by_alice.message


# What is on record of a token


def test_the_record_of_every_act_names_the_token(office: Office) -> None:
    office.create_policy(eligible={"principals": [office.user("alice")]}, steps=[])
    office.brings("alice", GRANTS + "RequestGrant", office.wants(), jti="t-7")
    office.brings("alice", ACCESS + "CheckAccess", office.question(subject=office.user("alice")), jti="t-8")
    office.brings("alice", ACCESS + "CheckAccess", office.question(subject=office.user("bob")), jti="t-9")

    records = office.audit(f'principal = "{office.user("alice")}"')

    assert [(str(record.issuer), str(record.issuer_subject), str(record.token_id)) for record in records] == [
        ("https://idp.example.com", f"00u-alice-{office.id}", token) for token in ("t-7", "t-8", "t-9")
    ]


# The same person in other letters


def test_one_person_has_one_name_in_whatever_letters_it_is_written(office: Office) -> None:
    written, alice, mail = f"user:ALICE-{office.id}@Example.com", office.user("alice"), f"Alice-{office.id}@Example.COM"
    office.create_policy(eligible={"principals": [written]}, steps=[])

    asked = office.brings("alice", GRANTS + "RequestGrant", office.wants(), email=mail)

    assert asked.message.subject == alice
    for subject in (alice, written):
        assert office.check(subject=subject).allowed
    itself = office.question(subject=written)
    assert office.brings(
        "alice", ACCESS + "CheckAccess", itself, email=f"Alice-{office.id}@Example.COM"
    ).message.allowed
    found = office.must(office.gateway, ACCESS + "SearchAccess", office.question(subject=written, action=""))
    assert [entry.name for entry in found.found] == ["read"]


def test_a_deny_by_name_is_not_passed_by_in_other_letters(office: Office) -> None:
    office.create_policy(steps=[])
    deny = {"deny": True, "eligible": {"principals": [office.user("mallory")]}, "actions": ["**"]}
    document = {"name": f"policies/p{office.id}-deny", "resources": [f"database/{office.id}/**"]} | deny
    office.must(office.admin, POLICIES + "CreatePolicy", {"policy": document})

    refused = office.brings(
        "mallory", GRANTS + "RequestGrant", office.wants(), email=f"Mallory-{office.id}@example.com"
    )

    assert refused.reason == "DENIED_BY_POLICY"


def test_nobody_asks_or_is_named_as_the_service_itself(office: Office) -> None:
    eligible = {"principals": ["service:JIT-service"]}

    named = office.call(office.admin, POLICIES + "CreatePolicy", {"policy": office.policy(eligible=eligible)})
    asked = office.call(office.alice, GRANTS + "RequestGrant", office.wants(subject="service:jit-service"))

    assert named.fields == ("policy.eligible.principals[0]",)
    assert asked.fields == ("subject",)


# Renamed people: the same `iss` and `sub` under another name


def test_who_was_renamed_is_still_who_asked(office: Office) -> None:
    office.create_policy(steps=[{"approvers": {"groups": [office.engineers]}}])
    asked = office.brings("alice", GRANTS + "RequestGrant", office.wants()).message
    new_name = {"sub": f"00u-alice-{office.id}"}

    refused = office.brings("alice.new", GRANTS + "ApproveGrant", {"name": asked.name}, **new_name)
    office.brings("bob", GRANTS + "ApproveGrant", {"name": asked.name})
    seen = office.brings("alice.new", GRANTS + "GetGrant", {"name": asked.name}, **new_name)
    released = office.brings("alice.new", GRANTS + "ReleaseGrant", {"name": asked.name}, **new_name)
    somebody = office.brings("mallory", GRANTS + "ReleaseGrant", {"name": asked.name})

    assert refused.reason == "SELF_APPROVAL"
    assert seen.message.subject == office.user("alice")
    assert released.code == "OK"
    assert somebody.code != "OK"
    released_by = office.audit(f'grant = "{asked.name}" AND event_type = GRANT_RELEASED')[0]
    assert (released_by.principal, released_by.issuer_subject) == (office.user("alice.new"), new_name["sub"])


# Whom the service takes a caller for


def test_whoever_asks_is_told_whom_the_service_takes_it_for(office: Office) -> None:
    told = office.brings("alice", ACCESS + "WhoAmI", {}, jti="t-7").message

    assert (told.principal, list(told.groups), list(told.roles)) == (office.user("alice"), [office.engineers], [])
    assert (told.issuer, told.issuer_subject, told.jti) == ("https://idp.example.com", f"00u-alice-{office.id}", "t-7")
    assert told.expire_time.ToDatetime(UTC) > office.world.clock()


@left_out
def test_groups_that_are_not_known_are_told_as_such(office: Office, claims: dict[str, Any]) -> None:
    told = office.brings("alice", ACCESS + "WhoAmI", {}, **claims).message

    assert (told.groups_left_out, list(told.groups)) == (True, [])


def test_a_locked_caller_is_told_that_and_nothing_else(office: Office) -> None:
    who = office.brings("alice", ACCESS + "WhoAmI", {}).message.principal
    office.must(office.admin, LOCKS + "CreateLock", {"lock": {"principal": who, "comment": "stolen laptop"}})

    assert office.brings("alice", ACCESS + "WhoAmI", {}).reason == "LOCKED"
