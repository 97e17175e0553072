"""Which principals the certificates of clients prove, as the settings say (docs/adr/0061-tls-at-the-service.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jit_service.domain.caller import Role
from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name

_REST: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[A-Za-z0-9.-]{1,255}/[!-)+-~]{0,1024}\*?")
_DNS: Final = re.compile(r"(?:\*|[a-z0-9-]{1,63})(?:\.[a-z0-9-]{1,63})+")
_SERVICE: Final = "service:"
_STAR: Final = "*"


class AlternativeName(NamedTuple):
    """A subject alternative name of a certificate (RFC 5280, 4.2.1.6): `uri` or `dns`, and its text."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.text}"


class CertificatePrincipal(BaseModel):
    """The service principal that a certificate with this `uri` or `dns` proves, with its API roles and groups.

    A `uri` may end in `/*` and a `dns` begin with `*.`; then `principal` ends in `*`, which stands for the same text,
    and gets no roles. Groups that are left out are not known: they permit nothing, and every deny by group applies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = ""
    dns: str = ""
    principal: Annotated[str, Field(min_length=1)]
    roles: tuple[Role, ...] = ()
    groups: tuple[str, ...] | None = None

    @property
    def alternative_name(self) -> AlternativeName:
        """What a certificate must have."""
        return AlternativeName("uri", self.uri) if self.uri else AlternativeName("dns", self.dns)

    def principal_for(self, shown: AlternativeName) -> str | None:
        """Returns the principal of a certificate that has this name; None if it is not what is asked for."""
        kind, wanted = self.alternative_name
        if shown.kind != kind:
            return None
        if _STAR not in wanted:
            return self.principal if shown.text == wanted else None
        rest = _rest_of(wanted, shown.text)
        made = self.principal.removesuffix(_STAR) + rest
        return made if rest and _is_principal(made) else None

    @field_validator("dns")
    @classmethod
    def _host(cls, given: str) -> str:
        if given and not _DNS.fullmatch(given.lower()):
            raise ValueError("must be a host's name, such as gateway.internal or *.gateways.internal")
        return given.lower()

    @field_validator("uri")
    @classmethod
    def _absolute(cls, given: str) -> str:
        if given and (not _URI.fullmatch(given) or (given.endswith(_STAR) and not given.endswith("/*"))):
            raise ValueError(
                "must be SCHEME://HOST/PATH, such as spiffe://example.org/gateway; it may end in /* and has no other *"
            )
        return given

    @field_validator("groups")
    @classmethod
    def _groups(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for group in given or ():
            try:
                name.group(group, "groups")
            except InvalidField as fault:
                raise ValueError(fault.fault) from None
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.uri) == bool(self.dns):
            raise ValueError("needs exactly one of uri and dns")
        pattern = _STAR in self.alternative_name.text
        if not self.principal.startswith(_SERVICE):
            raise ValueError("principal must begin with service:, since people prove themselves by tokens")
        if pattern != self.principal.endswith(_STAR):
            raise ValueError("principal must end in * if the uri or dns has a *, and only then")
        if pattern and self.roles:
            raise ValueError("roles are for one certificate's name; with a * give none")
        if not pattern and not _is_principal(self.principal):
            raise ValueError(
                f"principal must be service:NAME, of at most 256 printable characters without *, and not {name.SERVICE}"
            )
        return self


def of_names(rules: Iterable[CertificatePrincipal], shown: Sequence[AlternativeName]) -> list[_Match]:
    """Returns what a certificate with these names proves: nothing, one principal, or more, which no caller can be."""
    found: dict[str, _Match] = {}
    for rule in rules:
        for alternative in shown:
            if (principal := rule.principal_for(alternative)) is not None:
                # An exact name comes before a pattern for the same principal, as it may give roles.
                before = found.get(principal)
                if before is None or _STAR in before.rule.alternative_name.text:
                    found[principal] = _Match(principal, alternative, rule)
    return list(found.values())


def demand_distinct(rules: Sequence[CertificatePrincipal]) -> None:
    """Raises ValueError if a name stands twice, since one of the two would be without effect."""
    names = [rule.alternative_name for rule in rules]
    for each in names:
        if names.count(each) > 1:
            raise ValueError(f"has {each} twice")


class _Match(NamedTuple):
    principal: str
    alternative_name: AlternativeName
    rule: CertificatePrincipal


def _rest_of(wanted: str, shown: str) -> str:
    """Returns the text for which the `*` stands, empty where it may not stand for it."""
    if wanted.startswith(_STAR):
        host, suffix = shown, wanted[1:]
        rest = host.removesuffix(suffix) if host.endswith(suffix) else ""
        return rest if _LABEL.fullmatch(rest) else ""
    prefix = wanted[:-1]
    rest = shown.removeprefix(prefix) if shown.startswith(prefix) else ""
    return rest if _REST.fullmatch(rest) else ""


def _is_principal(text: str) -> bool:
    try:
        return name.principal(text, "principal") == text
    except InvalidField:
        return False
