"""The recipes of docs/guides/identity.md: their settings load as they stand, and their tokens are who they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.errors import TokenInvalid
from jit_service.issuers import Issuer
from jit_service.rpc.authentication import Authenticator
from jit_service.settings import Settings
from tests.certificates import certificate
from tests.conftest import Clock
from tests.rpc.tokens import DROP, Forge
from tests.world import AUDIT, GRANTS, Grpc, Rest, World, running_world

DOC = Path(__file__).parents[1] / "docs" / "guides" / "identity.md"
POD = "/var/run/secrets/kubernetes.io/serviceaccount"
PROVIDERS = {
    "Okta",
    "Entra ID",
    "Google",
    "Keycloak",
    "Auth0",
    "Cognito",
    "AD FS",
    "GitHub Actions",
    "GitLab",
    "Kubernetes",
    "SPIFFE",
}


@dataclass(frozen=True)
class Recipe:
    """What the doc has under one provider's name."""

    provider: str
    settings: str
    tokens: tuple[dict[str, Any], ...]


def recipes() -> dict[str, Recipe]:
    _, *sections = DOC.read_text().split("\n### ")
    found = {}
    for section in sections:
        name = section.partition("\n")[0]
        (settings,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
        tokens = tuple(json.loads(text) for text in re.findall(r"```json\n(.*?)```", section, re.DOTALL))
        found[name] = Recipe(name, settings, tokens)
    return found


RECIPES = recipes()
TOKENS = [(recipe, number) for recipe in RECIPES.values() for number in range(len(recipe.tokens))]


class Provider:
    """Signs as the provider of a recipe would, with a key of its algorithm and under its kid."""

    def __init__(self, recipe: Recipe, directory: Path) -> None:
        header = recipe.tokens[0]["header"]
        self._forge = Forge(directory, name=recipe.provider)
        self._rsa = header["alg"].startswith("RS")
        kid = header.get("kid", "k1")
        self._forge.publish(self._forge.rsa_jwk(kid=kid, alg="RS256") if self._rsa else self._forge.jwk(kid=kid))
        self.issuer = self._loaded(recipe, directory)

    def _loaded(self, recipe: Recipe, directory: Path) -> Issuer:
        """The settings as they stand, but for where a pod's files are; the keys come from a file here."""
        authority, _ = certificate("localhost", directory)
        authority.rename(directory / "ca.crt")
        (directory / "token").touch(mode=0o600)
        (directory / "token").write_text("pod")
        path = directory / "issuers.yaml"
        path.write_text(recipe.settings.replace(POD, str(directory)))
        (issuer,) = Settings.load(issuers_file=path).issuers
        fetched = {"jwks_url": None, "ca_file": None, "bearer_token_file": None}
        return issuer.model_copy(update=fetched | {"jwks_file": self._forge.path})

    def sign(self, token: dict[str, Any], **changes: Any) -> str:
        claims = {key: value for key, value in (token["claims"] | changes).items() if value is not DROP}
        header = {"typ": DROP, "kid": DROP} | token["header"]
        algorithm = header.pop("alg")
        key = self._forge.rsa if self._rsa else self._forge.ec
        return self._forge.sign(claims, key=key, algorithm=algorithm, **header)


@pytest.fixture
def provider(tmp_path: Path) -> Callable[[Recipe], Provider]:
    return lambda recipe: Provider(recipe, tmp_path)


def issued(token: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(token["claims"]["iat"], UTC)


def authenticator(provider: Provider, at: datetime) -> Authenticator:
    return Authenticator([provider.issuer], clock=Clock(at), max_lifetime=timedelta(days=1))


def test_every_provider_has_a_recipe_with_a_token() -> None:
    assert set(RECIPES) == PROVIDERS
    assert all(recipe.tokens for recipe in RECIPES.values())


@pytest.mark.parametrize(("recipe", "number"), TOKENS, ids=[f"{recipe.provider} {n}" for recipe, n in TOKENS])
def test_a_token_is_who_its_recipe_says(provider: Callable[[Recipe], Provider], recipe: Recipe, number: int) -> None:
    token, signer = recipe.tokens[number], provider(recipe)

    # Also where the provider's clock is ahead.
    for at in (issued(token), issued(token) - timedelta(seconds=20)):
        identity = authenticator(signer, at).identify([f"Bearer {signer.sign(token)}"])

        said = token["is"]
        assert identity.principal == said["principal"]
        assert identity.groups == (None if said["groups"] is None else set(said["groups"]))
        assert identity.roles == set(said["roles"])


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_token_for_another_service_or_none_is_refused(provider: Callable[[Recipe], Provider], name: str) -> None:
    recipe = RECIPES[name]
    token, signer = recipe.tokens[0], provider(recipe)
    service = authenticator(signer, issued(token))

    for changes in ({"aud": "https://other.example.com"}, {"aud": DROP, "client_id": DROP}):
        with pytest.raises(TokenInvalid, match="`audience`"):
            service.identify([f"Bearer {signer.sign(token, **changes)}"])


NOT_OURS = {
    "a person of another tenant": ("Entra ID", 0, {"tid": "99999999-1111-4222-8333-944455566677"}),
    "anybody with an account": ("Google", 0, {"hd": DROP}),
    "a service account of another project": ("Google", 1, {"email": "x@evil.iam.gserviceaccount.com"}),
    "an address that is not verified": ("Google", 0, {"email_verified": False}),
    "a person who calls itself a service account": ("Keycloak", 1, {"preferred_username": DROP, "client_id": "ci"}),
    "an ID token": ("Cognito", 0, {"token_use": "id"}),
    "anybody's workflow": ("GitHub Actions", 0, {"repository_owner_id": "66"}),
    "a branch that anybody may push to": ("GitLab", 0, {"ref_protected": "false"}),
}


@pytest.mark.parametrize(("name", "number", "changes"), NOT_OURS.values(), ids=NOT_OURS)
def test_who_is_not_meant_by_a_recipe_is_refused(
    provider: Callable[[Recipe], Provider], name: str, number: int, changes: dict[str, Any]
) -> None:
    token = RECIPES[name].tokens[number]
    signer = provider(RECIPES[name])
    service = authenticator(signer, issued(token))

    with pytest.raises(TokenInvalid):
        service.identify([f"Bearer {signer.sign(token, **changes)}"])


# End to end


@pytest.fixture(scope="module", params=["grpcio", "native"])
def keycloak(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Provider]]:
    directory = tmp_path_factory.mktemp("k")
    signer = Provider(RECIPES["Keycloak"], directory)
    at = Clock(issued(RECIPES["Keycloak"].tokens[0]))
    url = f"sqlite:///{directory / 'jit.db'}"
    with running_world(directory, at, url, issuers=(signer.issuer,), transport=request.param) as world:
        yield world, signer


@pytest.mark.parametrize("calls", [Grpc, Rest])
def test_a_person_and_a_machine_of_one_provider_call_the_service(
    keycloak: tuple[World, Provider], calls: type[Grpc] | type[Rest]
) -> None:
    world, signer = keycloak
    person, machine = RECIPES["Keycloak"].tokens

    assert calls(world).call(f"{AUDIT}ListAuditEvents", {}, token=signer.sign(person)).code == "OK"
    refused = calls(world).call(f"{AUDIT}ListAuditEvents", {}, token=signer.sign(machine))
    assert refused.reason == "ROLE_REQUIRED"
    assert "service:ci" in refused.text


@pytest.mark.parametrize("calls", [Grpc, Rest])
def test_a_token_of_somebody_in_many_groups_passes_all_the_way(
    keycloak: tuple[World, Provider], calls: type[Grpc] | type[Rest]
) -> None:
    world, signer = keycloak
    groups = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(460)]
    person = RECIPES["Keycloak"].tokens[0]
    token, too_long = (
        signer.sign(person, realm_access={"roles": groups[:count]}, resource_access={}) for count in (230, 460)
    )
    assert 12_000 < len(token) < 24 << 10 < len(too_long) < 28 << 10

    assert calls(world).call(f"{GRANTS}ListGrants", {}, token=token).code == "OK"
    refused = calls(world).call(f"{GRANTS}ListGrants", {}, token=too_long)
    assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert "24576" in refused.text
    assert "JIT_MAX_TOKEN_BYTES" in refused.text
