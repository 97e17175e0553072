"""Who judges policy files: the service, or with `--offline` its own rules, where its package is installed (ADR 47)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jitaccess._faults import from_status
from jitaccess.cli.policyfile import PolicyFiles, Trial
from jitaccess.contract.convert import decode
from jitaccess.contract.model import AppliedPolicies, PolicyTestReport
from jitaccess.errors import InvalidArgument
from jitaccess.v1 import policy_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from jitaccess import JitClient

T = TypeVar("T")


class Judge(Protocol):
    """Says what policies would do. Nothing is changed. Raises JitError, of files with the places in them."""

    def differences(self, files: PolicyFiles, *, prune: bool) -> AppliedPolicies:
        """Returns what applying the files would change."""
        ...

    def test(self, trial: Trial, files: PolicyFiles, *, prune: bool) -> PolicyTestReport:
        """Returns what comes out of the cases, by the policies of the files."""
        ...


class Online:
    """The service, which judges beside what it has stored."""

    def __init__(self, client: JitClient) -> None:
        self._client = client

    def differences(self, files: PolicyFiles, *, prune: bool) -> AppliedPolicies:
        return self._client.apply_policies(files.policies, prune=prune, validate_only=True)

    def test(self, trial: Trial, files: PolicyFiles, *, prune: bool) -> PolicyTestReport:
        return self._client.test_policy(trial.policy, trial.cases, policies=files.policies, prune=prune)


class Offline:
    """The service's rules in this process. What would be stored is `against`; no other policies are known."""

    def __init__(self, against: Sequence[policy_pb2.Policy] = ()) -> None:
        self._rules = _rules()
        self._against = against

    def differences(self, files: PolicyFiles, *, prune: bool) -> AppliedPolicies:
        request = policy_pb2.ApplyPoliciesRequest(policies=files.policies, prune=prune, validate_only=True)
        return _read(AppliedPolicies, self._rules.apply_policies(request, self._against))

    def test(self, trial: Trial, files: PolicyFiles, *, prune: bool) -> PolicyTestReport:
        request = policy_pb2.TestPolicyRequest(
            name=trial.policy, policies=files.policies, cases=trial.cases, prune=prune
        )
        return _read(PolicyTestReport, self._rules.test_policy(request))


def _rules() -> Any:
    """Returns the module that the service's package registers. Raises InvalidArgument where it is not installed."""
    found = next(iter(entry_points(group="jitaccess.offline", name="policies")), None)
    needs = "--offline judges by the service's own rules; install the package jit-service beside jitaccess"
    if found is None:
        raise InvalidArgument(needs, reason="SERVICE_NOT_INSTALLED")
    try:
        return found.load()
    except ImportError as error:
        raise InvalidArgument(f"{needs} ({error})", reason="SERVICE_NOT_INSTALLED") from None


def _read(kind: type[T], answer: Message) -> T:
    if answer.DESCRIPTOR.full_name == "google.rpc.Status":
        raise from_status(answer)
    return decode(kind, answer)
