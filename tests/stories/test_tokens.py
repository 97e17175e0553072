"""Tokens of grants: issued, verified, introspected and revoked, the same over gRPC and REST."""

from __future__ import annotations

import http.client
import json
import uuid
from datetime import timedelta
from typing import Any

import jwt
import pytest

from jit_service.runtime.dev_issuer import ISSUER as DEV_ISSUER
from jit_service.settings import Address
from jit_service.use_cases import signing_keys, tokens
from jitaccess import TokenReason, TokenRefused, verify_token
from jitaccess.v1.audit_pb2 import AuditEvent
from tests.conftest import HOUR
from tests.world import FORM, GRANTS, POLICIES, TOKENS, Grpc, Outcome, Person, Rest, Story, World, form

ISSUER = "https://jit.example.com"
AUDIENCE = "https://orders.example.com"
CAP = timedelta(minutes=15)
SECOND = timedelta(seconds=1)


def issue(story: Story, grant: Any, person: Person | None = None, **body: Any) -> Any:
    return story.must(person or story.alice, TOKENS + "IssueToken", {"name": grant.name} | body)


def key_set(story: Story) -> dict[str, Any]:
    answer = story.must(story.alice, TOKENS + "GetKeySet", {})
    found: dict[str, Any] = json.loads(answer.data)
    return found


def introspect(story: Story, token: str, person: Person | None = None) -> dict[str, Any]:
    answer = story.must(person or story.gateway, TOKENS + "IntrospectToken", form(token))
    assert answer.content_type == "application/json"
    said: dict[str, Any] = json.loads(answer.data)
    return said


def revoke(story: Story, token: str, person: Person | None = None) -> Outcome:
    return story.call(person or story.alice, TOKENS + "RevokeToken", form(token))


def offline(story: Story, token: str, **options: Any) -> Any:
    usual = {"issuer": ISSUER, "audience": AUDIENCE, "clock": story.world.clock}
    return verify_token(token, key_set(story), **(usual | options))


def instant(world: World, span: timedelta = timedelta()) -> int:
    return int((world.clock() + span).timestamp())


def test_a_token_carries_the_grant_to_whoever_verifies_it_offline(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    issued = issue(story, grant, audience=[AUDIENCE])

    held = offline(story, issued.token, action="read", resource=story.resource)
    assert (held.grant, held.subject, held.policy) == (grant.name, story.alice.principal, grant.policy)
    assert held.token_id == issued.token_id
    # exp is a number of whole seconds, never past the cap.
    ends = (story.world.clock() + CAP).replace(microsecond=0)
    assert held.expire_time == ends == issued.expire_time.ToDatetime(held.expire_time.tzinfo)
    with pytest.raises(TokenRefused):
        offline(story, issued.token, action="write", resource=story.resource)
    story.world.clock.advance(CAP)
    with pytest.raises(TokenRefused):
        offline(story, issued.token)


def test_a_token_is_what_rfc_9068_and_9396_say(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    token = issue(story, grant, audience=[AUDIENCE], ttl="60s").token

    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})

    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    assert header["kid"] in [key["kid"] for key in key_set(story)["keys"]]
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "sub": story.alice.principal,
        "aud": [AUDIENCE],
        "client_id": story.alice.principal,
        "iat": instant(story.world),
        "exp": instant(story.world, 60 * SECOND),
        "authorization_details": [
            {
                "type": "jit_grant",
                "grant": grant.name,
                "policy": grant.policy,
                "actions": ["read"],
                "resources": [story.resource],
                "chain": [],
            }
        ],
    }


def test_a_token_of_what_was_passed_on_names_where_it_came_from_and_dies_with_it(story: Story) -> None:
    story.create_policy(maxChildDepth=1)
    parent = story.granted()
    bot = Person(f"service:bot-{story.id}")
    body = {"parent": parent.name, "subject": bot.principal, "resources": [story.resource], "actions": ["read"]}
    child = story.must(story.alice, GRANTS + "RequestGrant", body)

    token = issue(story, child, bot, audience=[AUDIENCE]).token

    assert offline(story, token).chain == (parent.name,)
    assert introspect(story, token)["active"]
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": parent.name})
    assert introspect(story, token) == {"active": False}


def test_introspection_says_all_of_an_active_token_and_nothing_of_another(story: Story) -> None:
    story.create_policy()
    issued = issue(story, story.granted(), audience=[AUDIENCE])

    said = introspect(story, issued.token)

    assert said["active"] is True
    assert (said["sub"], said["jti"], said["token_type"]) == (story.alice.principal, issued.token_id, "Bearer")
    assert said["exp"] == instant(story.world, CAP)
    for other in ("x", "a.b.c", issued.token + "==", issued.token[:-4] + "AAAA", story.world.token(story.alice)):
        assert introspect(story, other) == {"active": False}
    story.world.clock.advance(CAP)
    assert introspect(story, issued.token) == {"active": False}


def test_a_subject_may_ask_about_its_own_token_and_a_checker_about_any(story: Story) -> None:
    story.create_policy()
    token = issue(story, story.granted()).token

    assert introspect(story, token, story.alice)["active"]
    for person in (story.bob, story.auditor, story.admin):
        assert story.call(person, TOKENS + "IntrospectToken", form(token)).reason == "ROLE_REQUIRED"
    # The same for what is no token: there is nothing to learn.
    assert story.call(story.alice, TOKENS + "IntrospectToken", form("x")).reason == "ROLE_REQUIRED"


@pytest.mark.parametrize("end", ["RevokeGrant", "ReleaseGrant"])
def test_the_token_of_a_grant_that_ended_is_inactive_at_once(story: Story, end: str) -> None:
    story.create_policy()
    grant = story.granted()
    token = issue(story, grant).token

    person = story.bob if end == "RevokeGrant" else story.alice
    story.must(person, GRANTS + end, {"name": grant.name, "comment": "over"})

    assert introspect(story, token) == {"active": False}


def test_a_deny_that_came_since_makes_the_token_inactive(story: Story) -> None:
    story.create_policy()
    token = issue(story, story.granted()).token

    everybody = {"groups": [story.engineers]}
    deny = {"name": f"policies/p{story.id}-no", "deny": True, "eligible": everybody, "actions": ["**"]}
    story.must(story.admin, POLICIES + "CreatePolicy", {"policy": deny | {"resources": [f"database/{story.id}/**"]}})

    assert introspect(story, token) == {"active": False}
    outcome = story.call(story.alice, TOKENS + "IssueToken", {"name": story_grant(story)})
    assert outcome.reason == "DENIED_BY_POLICY"


def story_grant(story: Story) -> str:
    (grant,) = story.must(story.alice, GRANTS + "ListGrants", {}).grants
    return str(grant.name)


def test_a_revoked_token_is_inactive_at_once_and_others_of_the_grant_are_not(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    first, second = issue(story, grant), issue(story, grant)

    assert revoke(story, first.token).code == "OK"

    assert introspect(story, first.token) == {"active": False}
    assert introspect(story, second.token)["active"]
    records = story.audit(f'grant = "{grant.name}" AND event_type = "TOKEN_REVOKED"')
    assert [(record.token_id, record.principal) for record in records] == [(first.token_id, story.alice.principal)]


def test_revoking_what_is_no_token_or_none_any_more_answers_the_same(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    token = issue(story, grant).token
    before = len(story.audit('event_type = "TOKEN_REVOKED"'))

    for _ in range(2):
        assert revoke(story, token).code == "OK"
    assert revoke(story, "x").code == "OK"
    assert revoke(story, story.world.token(story.alice)).code == "OK"
    late = issue(story, grant).token
    story.world.clock.advance(CAP)
    assert revoke(story, late).code == "OK"

    assert len(story.audit('event_type = "TOKEN_REVOKED"')) == before + 1


def test_only_its_subject_and_an_admin_revoke_a_token(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    for person in (story.bob, story.gateway, story.auditor):
        outcome = revoke(story, issue(story, grant).token, person)
        assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "NOT_YOURS")
    token = issue(story, grant).token
    assert revoke(story, token, story.admin).code == "OK"
    assert introspect(story, token) == {"active": False}


def test_only_the_holder_has_a_token_and_strangers_learn_nothing(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    def reason(person: Person, name: str) -> str:
        return story.call(person, TOKENS + "IssueToken", {"name": name}).reason

    assert reason(story.bob, grant.name) == "NOT_YOURS"
    assert reason(story.admin, grant.name) == "NOT_YOURS"
    assert reason(story.dave, grant.name) == reason(story.dave, "grants/nothere") == "NOT_VISIBLE"
    assert reason(story.admin, "grants/nothere") == "GRANT_NOT_FOUND"
    assert reason(story.alice, "grants/NOT") == "INVALID_FIELD"


@pytest.mark.parametrize(
    "policy",
    [
        {"maxUses": 3},
        {"idleTimeout": "600s"},
        {"activationWindow": "600s"},
        {"checkCondition": "action == 'read'"},
    ],
)
def test_what_only_a_check_can_tell_has_no_token(story: Story, policy: dict[str, Any]) -> None:
    story.create_policy(**policy)
    grant = story.granted()

    outcome = story.call(story.alice, TOKENS + "IssueToken", {"name": grant.name})

    assert (outcome.code, outcome.reason) == ("FAILED_PRECONDITION", "TOKEN_NOT_POSSIBLE")
    assert grant.name in outcome.text


def test_what_is_not_active_has_no_token(story: Story) -> None:
    story.create_policy()
    grant = story.asks()

    assert story.call(story.alice, TOKENS + "IssueToken", {"name": grant.name}).reason == "WRONG_STATE"
    story.approves(story.bob, grant)
    assert issue(story, grant).token
    story.world.clock.advance(HOUR)
    assert story.call(story.alice, TOKENS + "IssueToken", {"name": grant.name}).reason == "WRONG_STATE"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ttl": "0s"}, "ttl"),
        ({"ttl": "-1s"}, "ttl"),
        ({"ttl": "1.5s"}, "ttl"),
        ({"ttl": "901s"}, "ttl"),
        ({"audience": ["a b"]}, "audience[0]"),
        ({"audience": [""]}, "audience[0]"),
        ({"audience": ["a"] * 2}, "audience"),
        ({"audience": [f"a{number}" for number in range(9)]}, "audience"),
        ({"requestId": "x"}, "request_id"),
    ],
)
def test_what_no_token_has_is_refused_by_field(story: Story, body: dict[str, Any], field: str) -> None:
    story.create_policy()

    outcome = story.call(story.alice, TOKENS + "IssueToken", {"name": story.granted().name} | body)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_the_same_request_again_has_a_token_of_the_same_claims(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    body = {"requestId": str(uuid.uuid4()), "audience": [AUDIENCE]}

    first, again = issue(story, grant, **body), issue(story, grant, **body)

    assert first.token_id == again.token_id
    assert offline(story, first.token) == offline(story, again.token)
    assert len(story.audit(f'grant = "{grant.name}" AND event_type = "TOKEN_ISSUED"')) == 1
    other = story.call(story.alice, TOKENS + "IssueToken", {"name": grant.name} | body | {"audience": ["x"]})
    assert other.reason == "REQUEST_ID_REUSED"
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})
    assert story.call(story.alice, TOKENS + "IssueToken", {"name": grant.name} | body).reason == "WRONG_STATE"


def test_each_token_is_on_record_and_nowhere_else(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    issued = issue(story, grant, audience=[AUDIENCE], ttl="60s", requestId=str(uuid.uuid4()))

    (record,) = story.audit(f'grant = "{grant.name}" AND event_type = "TOKEN_ISSUED"')
    assert record.event_type == AuditEvent.TOKEN_ISSUED
    assert (record.token_id, record.subject, record.decision) == (issued.token_id, story.alice.principal, "ISSUED")
    assert (record.duration.seconds, AUDIENCE in record.message) == (60, True)
    signature = issued.token.rpartition(".")[2].encode()
    with story.world.service.store.engine.connect() as connection:
        dump = b"".join(line.encode() for line in connection.connection.iterdump())  # type: ignore[attr-defined]
    assert issued.token_id.encode() in dump
    assert signature not in dump
    assert signature not in story.world.envoy.log.read_bytes()


def test_a_grants_token_proves_no_caller(story: Story) -> None:
    story.create_policy()
    token = issue(story, story.granted(), audience=["jitaccess", ISSUER]).token

    outcome = story.surface.call(GRANTS + "ListGrants", {}, token=token)

    assert (outcome.code, outcome.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_a_callers_token_is_no_grants_token(story: Story) -> None:
    with pytest.raises(TokenRefused) as refusal:
        offline(story, story.world.token(story.alice), issuer=DEV_ISSUER, audience="jitaccess")

    assert refusal.value.reason == TokenReason.WRONG_TYPE


def test_the_service_itself_verifies_with_its_store(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    token = issue(story, grant).token
    store, issuing = story.world.service.store, story.world.service.issuing
    assert issuing is not None

    assert tokens.verify_grant_token(store, issuing, token, audience=ISSUER).grant == grant.name
    with pytest.raises(TokenRefused, match="not for"):
        tokens.verify_grant_token(store, issuing, token, audience=AUDIENCE)
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})
    with pytest.raises(TokenRefused, match="not live"):
        tokens.verify_grant_token(store, issuing, token, audience=ISSUER)


FORMS = [
    ("application/json", b'{"token": "x"}', "body.content_type"),
    ("", b"token=x", "body.content_type"),
    (f"{FORM}; charset=utf-16", b"token=x", "body.content_type"),
    ("text/plain", b"token=x", "body.content_type"),
    (f"{FORM}; charset*0*=utf-8''utf-8", b"token=x", "body.content_type"),
    (f"{FORM}, {FORM}", b"token=x", "body.content_type"),
    (FORM, b"token=x&token=y", "body.token"),
    (FORM, b"token=x&token_type_hint=a&token_type_hint=b", "body.token_type_hint"),
    (FORM, b"token=", "body.token"),
    (FORM, b"token", "body.data"),
    (FORM, b"other=x", "body.token"),
    (FORM, b"", "body.token"),
    (FORM, b"token=\xff", "body.data"),
    (FORM, b"token=%ff", "body.data"),
    (FORM, b"token=a b", "body.data"),
    (FORM, "token=é".encode(), "body.data"),
    (FORM, b"&".join(b"a=b" for _ in range(17)), "body.data"),
    (FORM, b"token=" + b"x" * 40_000, "body.data"),
    (FORM, b'{"token": "x"}', "body.data"),
]


@pytest.mark.parametrize("rpc", ["IntrospectToken", "RevokeToken"])
@pytest.mark.parametrize(("kind", "data", "field"), FORMS)
def test_a_form_that_is_none_is_refused_by_field(world: World, rpc: str, kind: str, data: bytes, field: str) -> None:
    from google.api.httpbody_pb2 import HttpBody

    from jitaccess.v1 import token_pb2

    story = Story(world, Grpc(world))
    request = getattr(token_pb2, f"{rpc}Request")(body=HttpBody(content_type=kind, data=data))
    path = "/oauth2/introspect" if rpc == "IntrospectToken" else "/oauth2/revoke"

    outcome = story.call(story.gateway, TOKENS + rpc, request)
    headers = {"content-type": kind} if kind else {"content-type": "x/y"}
    status, answer = Rest(world).send("POST", path, data, token=world.token(story.gateway), headers=headers)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))
    assert (status, answer["code"]) == (400, 3)
    assert answer["details"][1]["fieldViolations"][0]["field"] == field.replace("content_type", "contentType")


@pytest.mark.parametrize("kind", [FORM.upper(), f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"'])
def test_a_form_by_each_of_its_names(world: World, kind: str) -> None:
    send = Rest(world).send

    status, answer = send("POST", "/oauth2/introspect", "token=x", token=gateway(world), headers={"content-type": kind})

    assert (status, answer) == (200, {"active": False})


def gateway(world: World) -> str:
    return world.token(Story(world, Grpc(world)).gateway)


def test_a_form_may_say_more_than_is_known(story: Story) -> None:
    story.create_policy()
    token = issue(story, story.granted()).token

    said = story.must(
        story.gateway, TOKENS + "IntrospectToken", form(token, token_type_hint="access_token", client_id="c")
    )

    assert json.loads(said.data)["active"]


@pytest.mark.parametrize("query", ["?token=x", "?body.data=dG9rZW49eA==", "?body=x", "?access_token=x"])
def test_no_token_comes_in_a_url(world: World, query: str) -> None:
    story = Story(world, Rest(world))

    status, _ = Rest(world).send(
        "POST", f"/oauth2/introspect{query}", b"", token=world.token(story.gateway), headers={"content-type": FORM}
    )

    assert status == 400


@pytest.mark.parametrize("path", ["/oauth2/introspect", "/oauth2/revoke"])
def test_the_oauth_endpoints_want_a_token_of_the_caller(world: World, path: str) -> None:
    status, answer = Rest(world).send("POST", path, "token=x", token=None, headers={"content-type": FORM})

    assert (status, answer["details"][0]["reason"]) == (401, "TOKEN_MISSING")


def get(address: Address, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_anybody_gets_the_keys_and_may_keep_them_for_minutes(world: World) -> None:
    status, headers, body = get(world.http, "/.well-known/jwks.json")

    assert (status, headers["content-type"]) == (200, "application/json")
    assert headers["cache-control"] == "public, max-age=300"
    for key in json.loads(body)["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["alg"], key["use"]) == ("ES256", "sig")

    again, told, nothing = get(world.http, "/.well-known/jwks.json", if_none_match=f'"x", W/{headers["etag"]}')
    assert (again, told["etag"], nothing) == (304, headers["etag"], b"")
    assert "x-jit-not-modified" not in told
    assert get(world.http, "/.well-known/jwks.json", if_none_match='"x"')[0] == 200


def test_anybody_learns_where_everything_is(world: World) -> None:
    status, _, body = get(world.http, "/.well-known/oauth-authorization-server")

    said = json.loads(body)
    assert (status, said["issuer"]) == (200, ISSUER)
    for name in ("jwks_uri", "introspection_endpoint", "revocation_endpoint"):
        assert said[name].startswith(f"{ISSUER}/")
    assert said["authorization_details_types_supported"] == ["jit_grant"]


def test_no_cache_keeps_a_token(world: World) -> None:
    story = Story(world, Grpc(world))
    story.create_policy()
    grant = story.granted()
    connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=20)
    bearer = {"authorization": f"Bearer {world.token(story.alice)}"}

    connection.request("POST", f"/v1/{grant.name}:issueToken", "{}", bearer | {"content-type": "application/json"})
    response = connection.getresponse()
    token = json.loads(response.read())["token"]
    connection.request("POST", "/oauth2/introspect", f"token={token}", bearer | {"content-type": FORM})
    said = connection.getresponse()

    assert response.getheader("cache-control") == said.getheader("cache-control") == "no-store"
    assert json.loads(said.read())["active"]
    connection.close()


def test_a_rotated_key_is_published_before_it_signs_and_the_old_one_stays_for_its_tokens(story: Story) -> None:
    story.create_policy()
    grant = story.granted(duration="14400s")
    store, issuing = story.world.service.store, story.world.service.issuing
    assert issuing is not None
    old = jwt.get_unverified_header(issue(story, grant).token)["kid"]

    added = signing_keys.rotate(store, issuing, by=signing_keys.service_caller())

    assert {old, added.kid} <= {key["kid"] for key in key_set(story)["keys"]}
    story.world.clock.advance(HOUR - SECOND)
    last = issue(story, grant, audience=[AUDIENCE]).token
    assert jwt.get_unverified_header(last)["kid"] == old
    story.world.clock.advance(SECOND)
    assert jwt.get_unverified_header(issue(story, grant).token)["kid"] == added.kid
    signing_keys.maintain(store, issuing)
    assert offline(story, last)
    assert introspect(story, last)["active"]
    story.world.clock.advance(CAP)
    signing_keys.maintain(store, issuing)
    assert old not in {key["kid"] for key in key_set(story)["keys"]}


def test_after_a_compromise_nothing_that_the_old_keys_signed_counts(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    store, issuing = story.world.service.store, story.world.service.issuing
    assert issuing is not None
    token = issue(story, grant, audience=[AUDIENCE]).token

    added = signing_keys.replace_all(store, issuing, by=signing_keys.service_caller())

    assert [key["kid"] for key in key_set(story)["keys"]] == [added.kid]
    assert introspect(story, token) == {"active": False}
    with pytest.raises(TokenRefused):
        offline(story, token)
    assert introspect(story, issue(story, grant).token)["active"]
