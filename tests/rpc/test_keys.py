"""The keys of issuers: where they come from, and that whoever fetches them badly or slowly holds nobody up."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from jit_service.domain.errors import IssuerKeysUnavailable, TokenExpired, TokenInvalid
from jit_service.rpc.authentication import Authenticator, IssuerKeyKeeper
from jitaccess.jose.keys import FileKeys, KeysAway, KeySet, Pick, UrlKeys, usable_keys
from tests.conftest import HOUR, NOON, Clock
from tests.rpc.providers import DISCOVERY, Provider, provider
from tests.rpc.tokens import Forge

LONG = 30


class Monotonic:
    """A clock of seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def idp(forge: Forge) -> Iterator[Provider]:
    with provider() as running:
        running.publish(forge.path)
        yield running


@pytest.fixture
def clock() -> Monotonic:
    return Monotonic()


def named(kid: str) -> Pick:
    return lambda keys: keys.by_kid.get(kid)


def fetched(keys: UrlKeys) -> None:
    """Has what was begun end."""
    fetch = keys._fetch
    assert fetch is not None
    fetch.join(LONG)
    assert not fetch.is_alive()


def test_only_keys_for_signatures_are_used(forge: Forge) -> None:
    forge.rsa = rsa.generate_private_key(65537, 1024)  # noqa: S505
    unusable = [
        {"kty": "oct", "kid": "hmac", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
        forge.jwk(kid="enc", use="enc"),
        forge.jwk(kid=5),
        forge.jwk(kid="twice"),
        forge.jwk(kid="twice"),
        forge.jwk(kid="broken", x="AAAA"),
        forge.rsa_jwk(kid="weak"),
    ]

    keys = usable_keys(json.dumps({"keys": [*unusable, forge.jwk(kid="good")]}).encode())

    assert set(keys.by_kid) == {"good"}


@pytest.mark.parametrize(("kids", "found"), [(["a"], True), ([None], True), (["a", "b"], False), (["a", "a"], False)])
def test_the_only_key_that_fits_is_found_without_its_name(forge: Forge, kids: list[Any], found: bool) -> None:
    entries = [forge.jwk(kid=kid) for kid in kids] + [forge.rsa_jwk()]

    keys = usable_keys(json.dumps({"keys": entries}).encode())

    assert (keys.only("ES256") is not None) is found
    assert keys.only("ES384") is None
    assert keys.only("RS256") is keys.only("PS512") is not None


# Behind a URL


def test_keys_are_asked_for_once(forge: Forge, idp: Provider) -> None:
    keys = UrlKeys(idp.jwks_url)

    assert all(keys.key(forge.kid) is not None for _ in range(3))
    assert idp.asked == ["/jwks.json"]


def test_made_up_kids_do_not_flood_the_issuer(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, clock=clock)
    assert [keys.key(f"unknown-{number}") for number in range(20)] == [None] * 20
    assert len(idp.asked) == 1

    clock.now += 11

    assert [keys.key(f"unknown-{number}") for number in range(20)] == [None] * 20
    assert len(idp.asked) == 2


def test_a_new_key_is_found_at_its_first_token(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, clock=clock)
    assert keys.key("k2") is None
    clock.now += 11

    idp.publish(json.dumps({"keys": [forge.jwk(kid="k2")]}).encode())

    assert keys.key("k2") is not None
    assert keys.key(forge.kid) is None


def test_known_keys_do_not_wait_for_those_that_are_fetched(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    """An issuer that does not answer for a made-up kid, or for keys that are old, holds up no known key."""
    keys = UrlKeys(idp.jwks_url, seconds=LONG, clock=clock)
    assert keys.key(forge.kid) is not None
    idp.answering.clear()
    clock.now += 500
    threading.Thread(target=keys.key, args=("made-up",), daemon=True).start()
    for _ in range(2):
        idp.arrivals.get(timeout=30)

    for _ in range(100):
        assert keys.find(named(forge.kid), patience=LONG) is not None

    assert keys._fetch is not None
    assert keys._fetch.is_alive(), "somebody waited until it was over"
    assert len(idp.asked) == 2


def test_only_a_few_wait_for_a_key_that_may_not_be_there(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, seconds=LONG, clock=clock)
    assert keys.key(forge.kid) is not None
    idp.answering.clear()
    clock.now += 11
    for _ in range(2):
        assert keys._places.acquire(blocking=False)

    with pytest.raises(KeysAway):
        keys.find(named("new"), patience=LONG)

    assert keys._fetch is not None
    assert keys._fetch.is_alive()


def test_all_wait_for_the_first_keys(forge: Forge, idp: Provider) -> None:
    keys = UrlKeys(idp.jwks_url, seconds=LONG)
    idp.answering.clear()
    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(keys.key, forge.kid) for _ in range(8)]
        idp.arrivals.get(timeout=30)
        idp.answering.set()

        assert all(one.result() is not None for one in found)
    assert len(idp.asked) == 1


def test_a_service_has_only_a_few_calls_wait_for_keys(forge: Forge, idp: Provider) -> None:
    """All its threads could be taken by the callers of an issuer that does not answer."""
    service = Authenticator([forge.issuer(jwks_file=None, jwks_url=idp.jwks_url)], clock=Clock(), max_lifetime=HOUR)
    idp.answering.clear()
    for _ in range(4):
        assert service._waiting.acquire(blocking=False)

    with pytest.raises(IssuerKeysUnavailable):
        service.identify([f"Bearer {forge.token(NOON)}"])

    keys: Any = service._trust.issuers[forge.name][1]
    assert keys._fetch.is_alive()


def test_one_fetch_is_under_way_at_a_time(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, seconds=LONG, clock=clock)
    idp.answering.clear()

    for number in range(20):
        clock.now += 1000
        with pytest.raises(KeysAway):
            keys.find(named(f"made-up-{number}"), patience=0)
    idp.answering.set()
    fetched(keys)

    assert len(idp.asked) == 1


def test_an_issuer_that_drips_is_cut_off(forge: Forge, idp: Provider) -> None:
    """Each byte comes in time, and all of them never."""
    keys = UrlKeys(idp.jwks_url, seconds=0.3)
    idp.drips = True

    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=LONG)

    fetched(keys)


def test_a_handshake_that_hangs_is_cut_off_too(forge: Forge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys = UrlKeys(f"https://127.0.0.1:{silent.getsockname()[1]}/jwks.json", seconds=0.3)

        with pytest.raises(KeysAway):
            keys.find(named(forge.kid), patience=LONG)

        fetched(keys)


def test_what_comes_too_late_does_not_count(forge: Forge, idp: Provider) -> None:
    keys = UrlKeys(idp.jwks_url, seconds=0.2)
    idp.answering.clear()
    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=LONG)

    idp.answering.set()

    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=0)


def test_keys_that_were_never_had_come_in_seconds_by_themselves(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, clock=clock)
    idp.status = 500
    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=LONG)

    idp.status = 200
    clock.now += 3
    keys.tend()
    fetched(keys)

    assert keys.find(named(forge.kid), patience=0) is not None


def test_while_the_issuer_is_away_known_keys_serve_for_an_hour(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    keys = UrlKeys(idp.jwks_url, clock=clock)
    assert keys.key(forge.kid) is not None
    idp.status = 503

    clock.now += 3600
    assert keys.find(named(forge.kid), patience=LONG) is not None
    with pytest.raises(KeysAway):
        keys.find(named("unknown"), patience=LONG)

    clock.now += 1
    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=LONG)


def test_a_key_that_was_withdrawn_counts_no_longer_than_five_minutes(
    forge: Forge, idp: Provider, clock: Monotonic
) -> None:
    keys = UrlKeys(idp.jwks_url, clock=clock)
    assert keys.key(forge.kid) is not None
    idp.publish(json.dumps({"keys": [forge.rsa_jwk()]}).encode())

    clock.now += 301
    keys.tend()
    fetched(keys)

    assert keys.find(named(forge.kid), patience=LONG) is None


def test_nor_where_nobody_looked_for_hours(forge: Forge, idp: Provider, clock: Monotonic) -> None:
    """The first one to ask waits."""
    keys = UrlKeys(idp.jwks_url, clock=clock)
    assert keys.key(forge.kid) is not None
    idp.publish(json.dumps({"keys": [forge.rsa_jwk()]}).encode())

    clock.now += 3000

    assert keys.key(forge.kid) is None


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"keys": 5}', b" " * 300_000, b"[" * 100_000, b"[]"])
def test_an_issuer_that_answers_wrong_has_no_keys(forge: Forge, idp: Provider, content: bytes) -> None:
    idp.documents["/jwks.json"] = content

    assert UrlKeys(idp.jwks_url).key(forge.kid) is None


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(forge: Forge, idp: Provider, status: int) -> None:
    idp.documents["/elsewhere"] = idp.documents["/jwks.json"]
    idp.status, idp.location = status, "/elsewhere"

    assert UrlKeys(idp.jwks_url).key(forge.kid) is None
    assert idp.asked == ["/jwks.json"]


def test_an_issuer_that_is_away_has_no_keys(forge: Forge) -> None:
    assert UrlKeys("http://127.0.0.1:1/jwks.json").key(forge.kid) is None


def test_a_proxy_does_not_speak_for_this_machine(forge: Forge, idp: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    with provider() as mallory:
        mallory.publish(Forge(forge.path.parent, name="mallory").path)
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, mallory.url)

        assert UrlKeys(idp.jwks_url).key(forge.kid) is not None
        assert not mallory.asked


# By discovery


def test_the_keys_of_an_issuer_are_found_by_its_name(forge: Forge, idp: Provider) -> None:
    assert UrlKeys(issuer=idp.url).key(forge.kid) is not None
    assert idp.asked == [DISCOVERY, "/jwks.json"]


def test_an_issuer_with_a_path_is_found_below_it(forge: Forge, idp: Provider) -> None:
    """OpenID Connect Discovery 1.0, 4.1: a slash at its end goes away."""
    name = f"{idp.url}/realms/acme/"
    idp.documents[f"/realms/acme{DISCOVERY}"] = json.dumps({"issuer": name, "jwks_uri": idp.jwks_url}).encode()

    assert UrlKeys(issuer=name).key(forge.kid) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example.com/jwks.json"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user@keys.example.com/"},
        {"jwks_uri": "https://keys.example.com:x/"},
        {"jwks_uri": ["https://keys.example.com/"]},
    ],
)
def test_a_document_that_is_anothers_or_leads_astray_has_no_keys(
    forge: Forge, idp: Provider, changes: dict[str, Any]
) -> None:
    idp.publish(forge.path, **changes)

    assert UrlKeys(issuer=idp.url).key(forge.kid) is None
    assert idp.asked == [DISCOVERY]


def test_keys_by_plain_http_from_elsewhere_are_not_fetched(forge: Forge, idp: Provider) -> None:
    """This address leads here all the same, so that only the rule says no."""
    idp.publish(forge.path, jwks_uri=f"http://0.0.0.0:{idp.port}/jwks.json")

    assert UrlKeys(issuer=idp.url).key(forge.kid) is None
    assert idp.asked == [DISCOVERY]


def test_discovery_and_keys_have_one_deadline(forge: Forge, idp: Provider) -> None:
    idp.documents[DISCOVERY] = b" " * 1000
    idp.drips = True
    keys = UrlKeys(issuer=idp.url, seconds=0.3)

    with pytest.raises(KeysAway):
        keys.find(named(forge.kid), patience=LONG)


# An authority and a token of the issuer's own, as a Kubernetes cluster has


@pytest.fixture
def cluster(forge: Forge, tmp_path: Path) -> Iterator[Provider]:
    with provider(tmp_path) as running:
        running.publish(forge.path)
        running.demands = "pod-1"
        yield running


def keys_of_cluster(cluster: Provider, tmp_path: Path, **options: Any) -> UrlKeys:
    secret = tmp_path / "token"
    if not secret.exists():
        secret.write_text("pod-1\n")
    usual = {"url": cluster.jwks_url, "ca_file": tmp_path / "ca.pem", "bearer_token_file": secret}
    return UrlKeys(**(usual | options))


def test_a_cluster_is_believed_by_its_authority_and_asked_with_a_token(
    forge: Forge, cluster: Provider, tmp_path: Path
) -> None:
    assert keys_of_cluster(cluster, tmp_path).key(forge.kid) is not None
    assert keys_of_cluster(cluster, tmp_path, url="", issuer=cluster.url).key(forge.kid) is not None
    assert set(cluster.shown) == {"Bearer pod-1"}


def test_without_its_authority_a_cluster_is_sent_nothing(forge: Forge, cluster: Provider, tmp_path: Path) -> None:
    assert keys_of_cluster(cluster, tmp_path, ca_file=None).key(forge.kid) is None
    assert not cluster.asked


def test_a_token_that_was_replaced_is_sent_at_the_next_fetch(
    forge: Forge, cluster: Provider, tmp_path: Path, clock: Monotonic
) -> None:
    keys = keys_of_cluster(cluster, tmp_path, clock=clock)
    assert keys.key(forge.kid) is not None
    cluster.demands = "pod-2"
    (tmp_path / "token.new").write_text("pod-2")
    os.replace(tmp_path / "token.new", tmp_path / "token")

    clock.now += 301
    keys.tend()
    fetched(keys)

    assert cluster.shown == ["Bearer pod-1", "Bearer pod-2"]


@pytest.mark.parametrize("content", ["", "two\nlines", "café", "a b"])
def test_a_file_that_holds_no_token_fetches_nothing(
    forge: Forge, cluster: Provider, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "token").write_text(content)

    assert keys_of_cluster(cluster, tmp_path).key(forge.kid) is None
    assert not cluster.asked
    assert not content or content not in caplog.text


def test_the_token_goes_to_the_issuer_and_to_nobody_that_it_names(
    forge: Forge, cluster: Provider, tmp_path: Path
) -> None:
    cluster.demands = ""
    with provider() as elsewhere:
        elsewhere.publish(forge.path)
        cluster.publish(forge.path, jwks_uri=elsewhere.jwks_url)

        assert keys_of_cluster(cluster, tmp_path, url="", issuer=cluster.url).key(forge.kid) is not None

        assert cluster.shown == ["Bearer pod-1"]
        assert elsewhere.shown == [""]


# What a caller hears


def test_keys_that_were_never_had_are_no_fault_of_the_token(forge: Forge, idp: Provider) -> None:
    service = Authenticator(
        [forge.issuer(jwks_file=None, jwks_url="http://127.0.0.1:1/jwks.json")], clock=Clock(), max_lifetime=HOUR
    )

    for identify in (service.identify, service.identify_at_once):
        with pytest.raises(IssuerKeysUnavailable) as refused:
            identify([f"Bearer {forge.token(NOON)}"])
        assert refused.value.metadata == {"issuer": forge.name}


def test_good_tokens_pass_while_a_made_up_kid_is_looked_up(forge: Forge, idp: Provider) -> None:
    """The lookup hangs, and others do not, whether their tokens are remembered or not."""
    service = Authenticator([forge.issuer(jwks_file=None, jwks_url=idp.jwks_url)], clock=Clock(), max_lifetime=HOUR)
    assert service.identify([f"Bearer {forge.token(NOON)}"])
    keys: Any = service._trust.issuers[forge.name][1]
    idp.answering.clear()
    keys._state = keys._state._replace(tried_at=-float("inf"))
    with pytest.raises(IssuerKeysUnavailable):
        service.identify_at_once([f"Bearer {forge.sign(forge.claims(NOON), kid='nope')}"])

    assert keys._fetch.is_alive()
    for number in range(50):
        assert service.identify([f"Bearer {forge.token(NOON)}"])
        assert service.identify([f"Bearer {forge.token(NOON, jti=str(number))}"])


def test_a_kid_that_its_issuer_does_not_have_is_a_bad_token(forge: Forge, idp: Provider) -> None:
    service = Authenticator([forge.issuer(jwks_file=None, jwks_url=idp.jwks_url)], clock=Clock(), max_lifetime=HOUR)

    for _ in range(2):
        with pytest.raises(TokenInvalid, match="kid"):
            service.identify([f"Bearer {forge.sign(forge.claims(NOON), kid='nope')}"])


def test_keys_are_fetched_before_anybody_calls(forge: Forge, idp: Provider) -> None:
    issuers = [forge.issuer(jwks_file=None, jwks_url=idp.jwks_url)]
    service = Authenticator(issuers, clock=Clock(), max_lifetime=HOUR)
    keeper = IssuerKeyKeeper(service, lambda: issuers)

    keeper.start()
    keeper.stop()
    keys: Any = service._trust.issuers[forge.name][1]
    fetched(keys)

    assert service.identify_at_once([f"Bearer {forge.token(NOON)}"])


def test_a_file_that_stays_broken_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    forge = Forge(tmp_path)
    good = forge.path.read_bytes()
    keys = FileKeys(forge.path)

    for content in (b"{", b"{", good, b"{"):
        forge.path.write_bytes(content)
        for _ in range(5):
            keys.key("made-up")

    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "again" in caplog.records[1].message


def test_keys_nobody_has_given_are_none() -> None:
    assert KeySet().only("ES256") is None
    with pytest.raises(ValueError, match="URL"):
        UrlKeys()


class TestChangedIssuers:
    """What is trusted is what the issuers are now."""

    def test_a_token_of_an_issuer_that_is_no_longer_trusted_is_refused_though_it_was_verified(
        self, forge: Forge
    ) -> None:
        service = Authenticator([forge.issuer()], clock=Clock(), max_lifetime=HOUR)
        token = [f"Bearer {forge.token(NOON)}"]
        service.identify(token)

        service.trust([])

        with pytest.raises(TokenInvalid, match="iss is not an issuer"):
            service.identify(token)

    def test_a_changed_mapping_counts_for_tokens_that_were_verified_before(self, forge: Forge) -> None:
        service = Authenticator([forge.issuer(roles={"admin": ("admin",)})], clock=Clock(), max_lifetime=HOUR)
        token = [f"Bearer {forge.token(NOON, roles=['admin'])}"]
        before = service.identify(token).roles

        service.trust([forge.issuer()])

        assert (before, service.identify(token).roles) == ({"admin"}, set())

    def test_keys_are_kept_where_they_still_come_from_the_same_place(self, forge: Forge, idp: Provider) -> None:
        issuer = forge.issuer(jwks_file=None, jwks_url=idp.jwks_url)
        service = Authenticator([issuer], clock=Clock(), max_lifetime=HOUR)
        service.identify([f"Bearer {forge.token(NOON)}"])

        service.trust([issuer.model_copy(update={"roles_claim": "other"})])

        assert service.identify_at_once([f"Bearer {forge.token(NOON)}"])

    def test_a_stream_ends_when_others_are_trusted_and_not_when_the_same_are(self, forge: Forge) -> None:
        service = Authenticator([forge.issuer()], clock=Clock(), max_lifetime=HOUR)
        begun = service.trusted

        service.trust([forge.issuer()])
        service.demand_unexpired(NOON + HOUR, trusted=begun)
        service.trust([])

        with pytest.raises(TokenExpired, match="issuers were changed"):
            service.demand_unexpired(NOON + HOUR, trusted=begun)
