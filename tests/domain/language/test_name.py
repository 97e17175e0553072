"""Names: what is acceptable, and why the rest is not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name
from jitaccess.naming import names

Check = Callable[[str, str], str]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (name.principal, "user:alice@example.com"),
        (name.principal, "service:build-bot"),
        (name.principal, "user:" + "a" * 251),
        (name.resource, "database/orders-prod"),
        (name.resource, "http/payments.internal/admin/refunds"),
        (name.resource, "http/host:8443/~user/a+b,c=d"),
        (name.resource, "database/" + "/".join(["a"] * 63)),
        (name.resource, "x/" + "a" * 1022),
        (name.resource, "file/日本語とLatin"),
        (name.resource, "file/заказы"),
        (name.resource, "file/Отчёт-2026.pdf"),
        (name.resource, "share/Finance Reports/q1 [final] 100%.xlsx"),
        (name.resource, "share/C:\\Reports"),
        (name.resource, "http/gitlab.internal/projects/acme%2Fweb"),
        (name.resource, "blob/a%41"),
        (name.action, "pods/exec"),
        (name.action, "Microsoft.Compute/virtualMachines/start/action"),
        (name.action, "s3:GetObject"),
        (name.resource_pattern, "k8s/prod-*/**"),
        (name.resource_pattern, "data*/x"),
        (name.resource_pattern, "file/отдел*"),
        (name.resource_pattern, "share/Finance *"),
        (name.resource_pattern, "file/.*"),
        (name.action_pattern, "s3:Get*"),
        (name.action_pattern, "pods/*"),
        (name.action, "read"),
        (name.action, "rows.create"),
        (name.resource_pattern, "**"),
        (name.resource_pattern, "database/**"),
        (name.resource_pattern, "*/orders"),
        (name.action_pattern, "*"),
        (name.action_pattern, "rows.*"),
        (name.group, "engineering"),
        (name.group, "/org/team a"),
        (name.group, "ACME\\Domain Admins"),
        (name.group, "CN=Ops,OU=Groups,DC=acme,DC=com"),
        (name.group, "IT-отдел"),
        (name.group, "p\u0430ypal"),
    ],
)
def test_good_names_stay_as_they_are(check: Check, text: str) -> None:
    assert check(text, "f") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "user:",
        ":alice",
        "group:x",
        "User:alice",
        "user: alice",
        "user:alice ",
        "user:a  b",
        "user:a\u00a0b",
        "user:a\n",
        "user:\u0430lice",
        "user:b.\u0430lice@example.com",
        "user:a\u200bb",
        "user:a\u202eb",
        "user:a\u0378",
        "user:a\ue000",
        "user:a\ud800",
        "user:\uff41",
        "user:*",
        "user:ext-*",
        "user:" + "a" * 252,
    ],
)
def test_what_is_no_principal(text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        name.principal(text, "subject")

    assert refused.value.message.isascii()


AS_PROVIDERS_WRITE_THEM = {
    "Auth0": "auth0|64ab12",
    "Google by way of Auth0": "google-oauth2|108912345678901234567",
    "GitHub Actions": "repo:acme/shop:ref:refs/heads/main",
    "GitHub Actions, unchangeable": "repo:acme@11/web@22:environment:prod",
    "GitLab": "project_path:acme/web:ref_type:branch:ref:main",
    "a guest of Entra ID": "alice_contoso.com#EXT#@fabrikam.onmicrosoft.com",
    "AD FS": "qP6P9bly/v3iZJ+ERLrieqD=",
    "a Windows domain": "ACME\\alice",
    "AWS": "arn:aws:iam::123456789012:role/deploy",
    "SPIFFE": "spiffe://example.com/ns/a/sa/b",
    "Kubernetes": "system:serviceaccount:ci:deployer",
    "a mail address": "o'brien+x@example.com",
    "a mail address of another script": "\u0438\u0432\u0430\u043d@example.com",
    "LDAP": "CN=Jo Smith,OU=Ops,DC=acme,DC=example",
    "brackets and quotes": 'a"b<c>{d}[e]`f`^%41?x=1&y;z',
    "dots": "..",
}


@pytest.mark.parametrize("written", AS_PROVIDERS_WRITE_THEM.values(), ids=AS_PROVIDERS_WRITE_THEM)
@pytest.mark.parametrize("kind", ["user", "service"])
def test_a_principal_is_as_its_provider_writes_it(kind: str, written: str) -> None:
    assert name.principal(f"{kind}:{written}", "subject", exact=("",)) == f"{kind}:{written}"


# One person, one name

FOLDED = {
    "user:Alice@Example.com": "user:alice@example.com",
    "service:CI@Example.com": "service:ci@example.com",
    "user:alice_contoso.com#EXT#@Fabrikam.onmicrosoft.com": "user:alice_contoso.com#ext#@fabrikam.onmicrosoft.com",
    "user:\u0418\u0432\u0430\u043d@example.com": "user:\u0438\u0432\u0430\u043d@example.com",
    "user:E\u0301va@example.com": "user:\u00e9va@example.com",
    "user:gro\u00df@example.com": "user:gro\u00df@example.com",
    "user:Bob": "user:Bob",
    "user:auth0|64AB": "user:auth0|64AB",
}


@pytest.mark.parametrize(("written", "kept"), FOLDED.items())
def test_the_letter_case_of_what_is_like_an_address_is_folded(written: str, kept: str) -> None:
    assert name.principal(written, "subject") == kept
    assert name.principal(kept, "subject") == kept
    assert name.canonical(written) == name.canonical(kept)


@pytest.mark.parametrize("exact", [("",), ("user:",), ("user:corp", "USER:bob")])
def test_the_letter_case_counts_of_what_begins_as_an_exact_issuers_do(exact: tuple[str, ...]) -> None:
    assert name.principal("user:Bob@example.com", "subject", exact=exact) == "user:Bob@example.com"
    assert name.principal("service:Bob@example.com", "subject", exact=exact[1:]) == "service:bob@example.com"


def test_two_letters_that_may_be_two_people_are_not_folded_for_what_permits_and_are_for_what_forbids() -> None:
    sharp, double = "user:gro\u00df@example.com", "user:gross@example.com"

    assert name.principal(sharp, "subject") != name.principal(double, "subject")
    assert name.canonical(sharp) == name.canonical(double)


@pytest.mark.parametrize("claimed", ["service:jit-service", "service:JIT-Service", "service:jit-\u017fervice"])
def test_nobody_is_the_service_itself(claimed: str) -> None:
    with pytest.raises(InvalidField):
        name.principal(claimed, "subject")

    assert name.principal("service:jit-service-2", "subject") == "service:jit-service-2"
    assert name.principal("user:jit-service", "subject") == "user:jit-service"


@pytest.mark.parametrize("check", [name.resource, name.resource_pattern])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "database",
        "/database/x",
        "database/",
        "database//x",
        "database/.",
        "database/../x",
        "Database/x",
        "9database/x",
        "database/%2e",
        "database/.%2E",
        "database/a\\..\\b",
        "http/host/%61",
        "http/host/a%2fb",
        "database/ a",
        "database/a ",
        "database/a  b",
        "database/a\u00a0b",
        "database/a\u0000",
        "database/a\u007f",
        "database/a\u0085",
        "database/\u202ea",
        "database/\u2066a",
        "database/a\ufeff",
        "database/a\u00ad",
        "database/a\ue000",
        "database/a\u0378",
        "database/\u0391bc",
        "database/\ufb01",
        "database/p\u0430ypal",
        "database/1\u09ea",
        "database/a\u09ea",
        "database/a\ufe0f",
        "database/\u2800",
        "database/a\u2215b",
        "database/\u0301a",
        "database/\u2025",
        "database/\uff0f",
        "database/\u2460",
        "database/*x",
        "database/x*y",
        "database/x**",
        "database/**/x",
        "database/***",
        "x/" + "a" * 1023,
        "/".join(["a"] * 65),
    ],
)
def test_what_is_no_resource(check: Check, text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(text, "resources[0]")

    assert refused.value.field == "resources[0]"
    assert refused.value.message.isascii()


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "/a", "a/", "a//b", "a%", "rows.**.x", "a*b", "*a", "a**", "a" * 257]
)
def test_what_is_no_action_pattern(text: str) -> None:
    with pytest.raises(InvalidField):
        name.action_pattern(text, "actions[0]")


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (name.resource_pattern, "database/x*y"),
        (name.resource_pattern, "database/*x/y"),
        (name.resource_pattern, "database/x**"),
        (name.action_pattern, "rows.c*e"),
        (name.action_pattern, "*.*x"),
    ],
)
def test_a_star_that_does_not_end_its_segment_is_refused_with_what_is_allowed(check: Check, text: str) -> None:
    with pytest.raises(InvalidField, match=r"has \* inside a segment; \* may end a segment, or be the whole of it"):
        check(text, "f")


@pytest.mark.parametrize("check", [name.resource, name.action])
@pytest.mark.parametrize("text", ["*", "**", "a/*", "a.*", "a/b*", "a*"])
def test_a_concrete_name_has_no_wildcard(check: Check, text: str) -> None:
    with pytest.raises(InvalidField):
        check(text, "f")


@pytest.mark.parametrize("text", ["", "a  b", "a\nb", "a\u202eb", "a\u00a0b", "x" * 1025, " a", "team-*"])
def test_what_is_no_group(text: str) -> None:
    with pytest.raises(InvalidField):
        name.group(text, "groups[0]")


def test_names_are_normalised_to_nfc() -> None:
    assert name.resource("file/cafe\u0301", "f") == "file/caf\u00e9"
    assert name.free_text("cafe\u0301", "f") == "caf\u00e9"


def test_a_name_that_normalisation_makes_too_long_is_refused() -> None:
    # U+0958 has no composed form, so NFC writes it with two characters.
    with pytest.raises(InvalidField, match="normalised"):
        name.resource("x/" + "\u0958" * 1022, "f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("orders", "policies/orders"), ("policies/orders-2", "policies/orders-2"), ("a" * 63, "policies/" + "a" * 63)],
)
def test_a_policy_may_be_named_by_its_bare_id(text: str, expected: str) -> None:
    assert name.policy_name(text, "policy") == expected


@pytest.mark.parametrize(
    "text", ["", "policies/", "Orders", "a-", "-a", "9a", "a_b", "a/b", "a" * 64, "policies/policies/a"]
)
def test_what_is_no_policy_name(text: str) -> None:
    with pytest.raises(InvalidField):
        name.policy_name(text, "policy")


@pytest.mark.parametrize("text", ["", "abc", "grants/", "grants/A", "grants/a/b", "grants/a-b", "grants/" + "a" * 65])
def test_what_is_no_grant_name(text: str) -> None:
    with pytest.raises(InvalidField):
        name.grant_name(text, "name")
    assert name.grant_name("grants/abc234", "name") == "grants/abc234"


@pytest.mark.parametrize("text", ["", "abc", "delegations/", "grants/abc", "delegations/A", "delegations/" + "a" * 65])
def test_what_is_no_delegation_name(text: str) -> None:
    with pytest.raises(InvalidField):
        name.delegation_name(text, "name")
    assert name.delegation_name("delegations/abc234", "name") == "delegations/abc234"


@pytest.mark.parametrize("text", ["", "abc", "locks/", "grants/abc", "locks/A", "locks/" + "a" * 65])
def test_what_is_no_lock_name(text: str) -> None:
    with pytest.raises(InvalidField, match="is not a lock's name; it must be locks/ID"):
        name.lock_name(text, "name")
    assert name.lock_name("locks/abc234", "name") == "locks/abc234"


@pytest.mark.parametrize(
    "text", ["", "abc", "policyProposals/", "grants/abc", "policyProposals/A", "policyProposals/" + "a" * 65]
)
def test_what_is_no_proposal_name(text: str) -> None:
    with pytest.raises(InvalidField, match="it must be policyProposals/ID"):
        name.proposal_name(text, "name")
    assert name.proposal_name("policyProposals/abc234", "name") == "policyProposals/abc234"


UUID = "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61"


def test_a_request_id_is_a_uuid_in_either_letter_case() -> None:
    assert name.request_id("") == ""
    assert name.request_id(UUID.upper()) == UUID


@pytest.mark.parametrize("text", ["x", UUID.replace("-", ""), "{" + UUID + "}", f"urn:uuid:{UUID}", UUID + "0"])
def test_another_spelling_is_no_request_id(text: str) -> None:
    with pytest.raises(InvalidField):
        name.request_id(text)


def test_free_text_may_have_lines_and_any_script_and_no_controls() -> None:
    assert name.free_text("one\ntwo\tthree \U0001f600 дела", "f") == "one\ntwo\tthree \U0001f600 дела"
    for bad in ("\0", "\x1b[31m", "a\u202eb", "a\u2066b", "\ud800"):
        with pytest.raises(InvalidField):
            name.free_text(bad, "comment")
    with pytest.raises(InvalidField, match="4097"):
        name.free_text("x" * 4097, "comment")


def test_labels_are_bounded_and_sorted() -> None:
    assert list(name.labels({"b": "1", "a": "2"})) == ["a", "b"]
    for bad in (
        {"A": "x"},
        {"": "x"},
        {"a" * 64: "x"},
        {"a": "x" * 129},
        {"a": "b c"},
        {f"k{n}": "" for n in range(65)},
    ):
        with pytest.raises(InvalidField):
            name.labels(bad)


def test_harmless_text_is_printable_and_bounded() -> None:
    assert name.harmless("a\x1b[31m\u202e\0") == "a\\u001b[31m\\u202e\\u0000"
    assert name.harmless("x" * 2000).endswith("... (2000 characters)")
    assert name.harmless("é \U0001f600") == "é \U0001f600"


@pytest.mark.parametrize(
    ("one", "two"), [("user:Bob", "user:bob"), ("user:STRASSE", "user:straße"), ("user:ﬁ", "user:fi")]
)
def test_two_spellings_of_a_person_are_one(one: str, two: str) -> None:
    assert name.canonical(one) == name.canonical(two)


def test_names_in_a_message_are_told_apart() -> None:
    assert name.listed(["database/orders", "http/a,b"]) == "database/orders, http/a,b"
    assert name.listed(["share/x, database/prod"]) == "'share/x, database/prod'"


@given(st.text())
def test_a_name_is_accepted_in_one_form_or_refused(text: str) -> None:
    for check in (name.principal, name.resource_pattern, name.action_pattern, name.group):
        try:
            accepted = check(text, "f")
        except InvalidField:
            continue
        assert check(accepted, "f") == accepted


@given(st.text())
def test_folding_is_stable(text: str) -> None:
    assert name.canonical(name.canonical(text)) == name.canonical(text)


ODD = st.text(alphabet="aZ0_.@:-/*~; \u0430\u200bé", max_size=12)


@pytest.mark.parametrize(
    ("check", "plain", "prefix"),
    [
        (name.principal, "_PLAIN_PRINCIPAL", "user:"),
        (name.resource_pattern, "_PLAIN_RESOURCE", "a/"),
        (name.action_pattern, "_PLAIN_ACTION", ""),
    ],
)
@given(text=ODD)
def test_a_plain_name_is_judged_as_without_the_short_way(
    check: Callable[[str, str], str], plain: str, prefix: str, text: str
) -> None:
    def judged() -> str:
        try:
            return check(prefix + text, "field")
        except InvalidField as fault:
            return str(fault)

    quick = judged()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, plain, re.compile("(?!)"))
        names.action_pattern.cache_clear()

        assert judged() == quick


@pytest.mark.parametrize("character", "\u202a\u202b\u202d\u202e\u202c\u2066\u2067\u2068\u2069")
def test_free_text_holds_no_bidirectional_control(character: str) -> None:
    with pytest.raises(InvalidField, match=f"holds the bidirectional control U\\+{ord(character):04X}"):
        name.free_text(f"a{character}b", "f")


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\u0378", "\ud800"])
def test_free_text_holds_no_control_nor_what_is_no_character(character: str) -> None:
    with pytest.raises(InvalidField, match=f"holds the control character U\\+{ord(character):04X}"):
        name.free_text(f"a{character}b", "f")


def test_what_is_no_name_is_told_what_is_one() -> None:
    for check, text, message in (
        (
            name.policy_name,
            "A",
            "f: 'A' is not a policy's name; it must be policies/ID, where ID is 1 to 63 of a-z, 0-9 and -, "
            "starts with a letter and does not end with -",
        ),
        (name.grant_name, "a", "f: 'a' is not a grant's name; it must be grants/ID"),
        (name.delegation_name, "a", "f: 'a' is not a delegation's name; it must be delegations/ID"),
        (name.proposal_name, "a", "f: 'a' is not a proposal's name; it must be policyProposals/ID"),
        (name.lock_name, "a", "f: 'a' is not a lock's name; it must be locks/ID"),
    ):
        with pytest.raises(InvalidField) as refused:
            check(text, "f")
        assert refused.value.message == message


def test_up_to_64_labels_are_allowed_and_a_wrong_one_is_told() -> None:
    assert len(name.labels({f"k{n}": "" for n in range(64)})) == 64
    with pytest.raises(InvalidField) as refused:
        name.labels({"team": "b c"})
    assert refused.value.message == "labels.team: must be at most 128 of A-Z, a-z, 0-9 and _ . : @ / -"


def test_a_foreign_id_is_kept_where_it_is_short_and_printable() -> None:
    assert name.foreign_id("a" * 256) == "a" * 256
    assert name.foreign_id("a b\u00e9") == "a b\u00e9"


@pytest.mark.parametrize("text", ["a" * 257, "a\nb", "\u202e", "\ud800"])
def test_any_other_foreign_id_is_known_by_its_digest(text: str) -> None:
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    assert name.foreign_id(text) == f"sha256:{digest}"


def test_names_with_a_space_or_a_quote_are_listed_in_quotes() -> None:
    assert name.listed(["a", "b c", 'd"e', "\u00e9"]) == "a, 'b c', 'd\"e', \u00e9"
