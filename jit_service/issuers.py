"""The issuers in the settings: what their tokens must say, and which principals the tokens prove."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from jit_service.configuration.forms import Span
from jit_service.configuration.secret_file import demand_private, shown_path
from jit_service.domain.caller import Role
from jit_service.domain.conditions.condition import validate_on_claims
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.name import canonical
from jitaccess.jose.fetching import secret_in
from jitaccess.jose.jws import plain_type
from jitaccess.jose.keys import ASYMMETRIC, is_safe_url

DEVELOPMENT: Final = "https://dev.jitaccess.invalid"
"""The issuer of `up --dev`, whose tokens may name everybody."""
DEVELOPMENT_PATH: Final = "/dev/oidc"
"""Where the edge of `up --dev` has the provider at which people log in (jit_service/runtime/dev_provider)."""
MAX_TOKEN_BYTES: Final = 24 << 10
"""The longest token by default; a token with two hundred groups has 12 KB."""
_OUR_TYPES: Final = ("jit-denial+jwt", "audit-checkpoint+jwt")
_PRINTABLE: Final = re.compile(r"[ -~]{0,256}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,256}")
_PLACE: Final = re.compile(r"\{([^{}]+)\}")

Text = Annotated[str, Field(min_length=1)]
Value = StrictBool | StrictInt | StrictStr


def _listed(given: object) -> object:
    """Returns a single value as a list of one."""
    return given if isinstance(given, list | tuple) else (given,)


def _of_a_kind(prefix: str) -> str:
    if prefix and not prefix.startswith(("user:", "service:")):
        raise ValueError("must begin with user: or service:, or be empty if the claim's own text does")
    return prefix


Prefix = Annotated[str, AfterValidator(_of_a_kind)]


def _printable(text: str) -> str:
    # RFC 6749, appendix A.1.
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("must be printable ASCII characters, at most 256")
    return text


def _scope(text: str) -> str:
    # RFC 6749, section 3.3.
    if not _SCOPE.fullmatch(text):
        raise ValueError("must be 1 to 256 ASCII characters without spaces, quotation marks and backslashes")
    return text


LoginText = Annotated[str, AfterValidator(_printable)]
Scope = Annotated[str, AfterValidator(_scope)]


class PrincipalRule(BaseModel):
    """How to make a token's principal: a prefix, and a claim or a template of claims such as `repo:{repository}`.

    `when` is CEL over `claims`; a rule without it applies to every token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str = ""
    template: str = ""
    prefix: Prefix = ""
    when: str = ""

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The template split into fixed texts and names of claims in turn: text, claim, text, …, text."""
        return ("", self.claim, "") if self.claim else tuple(_PLACE.split(self.template))

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that make up the principal."""
        return self.parts[1::2]

    def principal(self, values: Mapping[str, str]) -> str:
        """Returns the principal for these values of the claims. Raises ValueError if others could give the same."""
        made = self.prefix + self.parts[0]
        for claim, after in zip(self.claims, self.parts[2::2], strict=True):
            value = values[claim]
            # The next text must mark the claim's end: {a}:{b} of "x:y" and "z" would equal that of "x" and "y:z".
            if after and (value + after).index(after) != len(value):
                raise ValueError(f"the token's {claim} holds the text {after!a} that ends it in the template")
            made += value + after
        return made

    @field_validator("when")
    @classmethod
    def _condition(cls, when: str) -> str:
        try:
            return validate_on_claims(when, "when")
        except InvalidField as fault:
            raise ValueError(fault.fault) from None

    @model_validator(mode="after")
    def _one_spelling(self) -> Self:
        if bool(self.claim) == bool(self.template):
            raise ValueError("needs exactly one of claim and template")
        fixed = self.parts[::2]
        if not self.claims or any(set("{}") & set(text) for text in fixed):
            raise ValueError("template must name claims in braces, such as repo:{repository}:{ref}")
        if not all(fixed[1:-1]):
            raise ValueError("template must have text between two claims, or two tokens could give one principal")
        return self


class Issuer(BaseModel):
    """An issuer whose tokens prove callers; docs/guides/identity.md explains each setting.

    Its keys are a JWK set: in a file, at an https URL, or at the URL in its discovery document. A claim is given by its
    name, or by a path such as `realm_access.roles`. A principal that looks like an e-mail address is folded to lower
    case, unless `principal_case` is exact. `roles` maps an API role to the values of `roles_claim` that give it;
    there are none by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Text
    audience: Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_listed)]
    audience_claim: Text = "aud"
    jwks_file: Path | None = None
    jwks_url: str | None = None
    ca_file: Path | None = None
    bearer_token_file: Path | None = None
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    token_types: tuple[str, ...] = ("JWT", "at+jwt", "")
    principal_claim: Text = "sub"
    principal_prefix: Prefix = ""
    principal_rules: tuple[PrincipalRule, ...] = ()
    principal_case: Literal["fold", "exact"] = "fold"
    shares_principals: bool = False
    required_claims: dict[Text, Annotated[tuple[Value, ...], Field(min_length=1), BeforeValidator(_listed)]] = Field(
        default_factory=dict
    )
    groups_claim: Text = "groups"
    roles_claim: Text = "roles"
    roles: dict[Role, tuple[str, ...]] = Field(default_factory=dict)
    max_token_lifetime: Span | None = None
    cli_client_id: LoginText = ""
    console_client_id: LoginText = ""
    login_scopes: Annotated[tuple[Scope, ...], Field(max_length=32)] = ()
    login_audience: LoginText = ""

    @property
    def logs_in(self) -> bool:
        """Whether people log in there, by `jit login` or the console."""
        return bool(self.cli_client_id or self.console_client_id)

    @cached_property
    def rules(self) -> tuple[PrincipalRule, ...]:
        """The rules for its tokens' principals; the first that applies is used."""
        return self.principal_rules or (PrincipalRule(claim=self.principal_claim, prefix=self.principal_prefix),)

    @property
    def principal_prefixes(self) -> tuple[str, ...]:
        """The beginnings of its principals, one for each rule."""
        return tuple(rule.prefix + rule.parts[0] for rule in self.rules)

    @property
    def exact_principals(self) -> tuple[str, ...]:
        """The beginnings of its principals whose letter case is kept."""
        return self.principal_prefixes if self.principal_case == "exact" else ()

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for algorithm in given:
            if algorithm not in ASYMMETRIC:
                raise ValueError(f"{algorithm!a} is not allowed; only {', '.join(ASYMMETRIC)} are")
        if not given:
            raise ValueError("is empty, so no token would be accepted")
        return given

    @field_validator("token_types")
    @classmethod
    def _of_callers(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for typ in given:
            if plain_type(typ) in _OUR_TYPES:
                raise ValueError(
                    f"{typ!a} is a type that this service signs for another purpose, so it proves no caller"
                )
        if not given:
            raise ValueError('is empty, so no token would be accepted; "" is for a token without typ')
        return given

    @field_validator("principal_rules")
    @classmethod
    def _in_order(cls, given: tuple[PrincipalRule, ...]) -> tuple[PrincipalRule, ...]:
        for place, rule in enumerate(given[:-1]):
            if not rule.when:
                raise ValueError(
                    f"[{place}] has no `when`, so it applies to every token, and no rule after it ever applies"
                )
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.principal_rules and (self.principal_claim, self.principal_prefix) != ("sub", ""):
            raise ValueError("principal_rules replace principal_claim and principal_prefix; give only one of the two")
        self._demand_keys()
        self._demand_login()
        return self

    def _demand_login(self) -> None:
        if not self.logs_in and (self.login_scopes or self.login_audience):
            raise ValueError("login_scopes and login_audience are for people who log in: cli_client_id is missing too")
        if self.logs_in and not is_safe_url(self.issuer):
            raise ValueError(
                "cli_client_id and console_client_id need an issuer whose name is an https URL, or http on loopback, "
                "since clients find its endpoints there"
            )

    def _demand_keys(self) -> None:
        if self.jwks_file is not None and self.jwks_url is not None:
            raise ValueError("needs at most one of jwks_file and jwks_url; without either, keys are found by discovery")
        if self.jwks_file is not None:
            if self.ca_file is not None or self.bearer_token_file is not None:
                raise ValueError("ca_file and bearer_token_file are for keys that are fetched, not for a jwks_file")
            return
        if self.jwks_url is not None and not is_safe_url(self.jwks_url):
            raise ValueError(
                "jwks_url must be https, or http on loopback: anyone who can change the keys can act as anyone"
            )
        if self.jwks_url is None and not (is_safe_url(self.issuer) and not set("?#") & set(self.issuer)):
            raise ValueError(
                "needs jwks_file or jwks_url: its issuer is not an https URL, so keys cannot be discovered"
            )
        _demand_usable(self.ca_file, self.bearer_token_file)


def exact_principals(issuers: Iterable[Issuer]) -> tuple[str, ...]:
    """Returns the beginnings of principals whose letter case is kept, of all issuers."""
    return tuple(prefix for issuer in issuers for prefix in issuer.exact_principals)


def demand_own_principals(issuers: Sequence[Issuer]) -> None:
    """Raises ValueError if two issuers can make the same principals, unless both set shares_principals.

    The issuers of `up --dev` may make everybody's.
    """
    for one, other in combinations((issuer for issuer in issuers if not _is_development(issuer.issuer)), 2):
        shared = _shared_prefix(one, other)
        if shared is None:
            continue
        between = f"{one.issuer} and {other.issuer} can both make principals that begin with {shared!a}"
        if not (one.shares_principals and other.shares_principals):
            raise ValueError(f"{between}; give each a prefix of its own, or both shares_principals: true")
        if one.principal_case != other.principal_case:
            raise ValueError(f"{between}; then both must have the same principal_case")


def demand_unmade(issuers: Iterable[Issuer], principal: str) -> None:
    """Raises ValueError if one of the issuers can make the principal, or one that begins as it does before a `*`.

    One that sets shares_principals may. Those of `up --dev` may make everybody's.
    """
    begin = canonical(principal.removesuffix("*"))
    for issuer in issuers:
        prefixes = [] if _is_development(issuer.issuer) or issuer.shares_principals else issuer.principal_prefixes
        for prefix in map(canonical, prefixes):
            if begin.startswith(prefix) or (principal.endswith("*") and prefix.startswith(begin)):
                raise ValueError(
                    f"{issuer.issuer} can make {principal} too, which JIT_TLS_PRINCIPALS gives to a certificate; give "
                    "the issuer a prefix of its own, or shares_principals: true"
                )


def _is_development(issuer: str) -> bool:
    """Whether it is an issuer of `up --dev`; of http URLs only those on loopback are safe."""
    is_provider = issuer.startswith("http://") and is_safe_url(issuer) and urlsplit(issuer).path == DEVELOPMENT_PATH
    return issuer == DEVELOPMENT or is_provider


def login_issuer(issuers: Iterable[Issuer]) -> Issuer | None:
    """Returns the issuer at which people log in; None if there is none. Raises ValueError for more than one."""
    found = [issuer for issuer in issuers if issuer.logs_in]
    if len(found) > 1:
        raise ValueError(
            f"{found[0].issuer} and {found[1].issuer} both have a cli_client_id or console_client_id; people log in at "
            "one issuer only"
        )
    return found[0] if found else None


def _shared_prefix(one: Issuer, other: Issuer) -> str | None:
    for first, second in product(one.principal_prefixes, other.principal_prefixes):
        shorter, longer = sorted((first, second), key=len)
        if canonical(longer).startswith(canonical(shorter)):
            return longer
    return None


def _demand_usable(ca_file: Path | None, bearer_token_file: Path | None) -> None:
    try:
        if ca_file is not None:
            ssl.create_default_context(cafile=ca_file)
    except OSError as fault:
        raise ValueError(f"ca_file {ca_file} cannot be used: {fault}") from None
    if bearer_token_file is None:
        return
    try:
        demand_private(bearer_token_file)
        secret_in(bearer_token_file)
    except OSError as fault:
        shown = shown_path(bearer_token_file)
        raise ValueError(f"bearer_token_file {shown} cannot be used: {fault.strerror}") from None
    except ValueError as fault:
        raise ValueError(f"bearer_token_file {bearer_token_file} cannot be used: {fault}") from None
