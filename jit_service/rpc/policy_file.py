"""Policy files: YAML with a list `policies:` of the contract's Policy messages, in their JSON names."""

from __future__ import annotations

from pathlib import Path

import yaml
from google.protobuf.json_format import ParseDict, ParseError

from jit_service.domain.errors import InvalidField
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.rpc.services.policies_messages import proposed_of
from jitaccess import strict_yaml
from jitaccess.v1 import policy_pb2


class PolicyFileError(ValueError):
    """The file is not a policy file; the message is one line and names the file."""


def load(path: Path) -> list[PolicyDraft]:
    """Returns the policies of the file. Raises PolicyFileError."""
    try:
        document = strict_yaml.load(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or list(document) != ["policies"]:
            raise PolicyFileError(f"{path}: must hold `policies:` and a list, and nothing else")
        return proposed_of(ParseDict(document, policy_pb2.ApplyPoliciesRequest()).policies)
    except (OSError, UnicodeDecodeError) as fault:
        raise PolicyFileError(f"{path}: cannot be read: {fault}") from fault
    except (yaml.YAMLError, ParseError, InvalidField) as fault:
        raise PolicyFileError(f"{path}: {' '.join(str(fault).split())}") from fault
