"""The policy file that `serve --policies` takes, read as `jit` reads it."""

from __future__ import annotations

from pathlib import Path

from jit_service.domain.errors import InvalidField
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.rpc.services.policies_messages import proposed_of
from jitaccess import policy_file


class PolicyFileError(ValueError):
    """The file is not a policy file; the message is one line and names the file."""


def load(path: Path) -> list[PolicyDraft]:
    """Returns the policies of the file. Raises PolicyFileError."""
    try:
        read = policy_file.read_policies(path.read_bytes())
    except OSError as fault:
        raise PolicyFileError(f"{path}: cannot be read: {fault}") from fault
    if read.faults:
        places = (f":{fault.line}: {fault.words}" if fault.line else f": {fault.words}" for fault in read.faults)
        raise PolicyFileError("; ".join(f"{path}{place}" for place in places))
    try:
        return proposed_of(read.policies)
    except InvalidField as fault:
        raise PolicyFileError(
            "; ".join(f"{path}:{read.lines.of(each.field)}: {each.message}" for each in fault.each)
        ) from fault
