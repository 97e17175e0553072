"""What a context may say of its token: where a login is kept, or which platform gives it."""

from __future__ import annotations

from enum import StrEnum


class Place(StrEnum):
    """Where the tokens of a login are."""

    KEYRING = "keyring"
    FILE = "file"


class Workload(StrEnum):
    """The platforms whose jobs have tokens of their own."""

    GITHUB = "github"
    GITLAB = "gitlab"
    KUBERNETES = "kubernetes"
