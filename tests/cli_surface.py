"""The command line as a surface: what a call asks for, said to `jit`, and what `jit -o json` answers."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import status_pb2

from jitaccess.cli.app import run
from tests.world import (
    ACCESS,
    DELEGATIONS,
    GRANTS,
    LOCKS,
    POLICIES,
    TOKENS,
    Outcome,
    World,
    code_name,
    messages_of,
    refusal,
)

Body = dict[str, Any]
Argv = list[str]


class Cli:
    """Calls by `jit`, in this process. Raises NotImplementedError for what it cannot say."""

    name = "cli"

    def __init__(self, world: World) -> None:
        self._world = world

    def call(self, method: str, body: Body | Message, *, token: str | None, **metadata: str) -> Outcome:
        given = MessageToDict(body) if isinstance(body, Message) else json.loads(json.dumps(body))
        if metadata or method not in _SAID:
            raise NotImplementedError(f"jit cannot say {method} {metadata}")
        with _directory() as directory:
            argv = _SAID[method](given, directory)
            if given.pop("extensionRound", 0):
                # Which request is meant is known by what was shown.
                self._run(["show", argv[1]], token, directory)
            if given:
                raise NotImplementedError(f"jit cannot say {sorted(given)} of {method}")
            code, out, err = self._run(argv, token, directory)
        if code in (0, 1) and out:
            return Outcome("OK", ParseDict(json.loads(out), messages_of(method)[1](), ignore_unknown_fields=False))
        status = ParseDict(json.loads(err), status_pb2.Status())
        refused = refusal(code_name(status.code), status.message, status)
        if refused.reason == "NOT_SHOWN":
            raise NotImplementedError(f"jit cannot say {method} before it has shown what that is on")
        return refused

    def _run(self, argv: Argv, token: str | None, directory: Path) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        (directory / "token").write_text(token or "")
        options = ["-o", "json", "--address", str(self._world.grpc), "--token-file", str(directory / "token")]
        kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("JIT_")}
        # Nothing was shown before.
        ours = {"JIT_CONFIG": str(directory / "none.toml"), "XDG_STATE_HOME": str(directory)}
        kept |= {name: os.environ[name] for name in ours if name in os.environ}
        os.environ.update(ours)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = run([*options, *argv])
        finally:
            for name in ours:
                del os.environ[name]
            os.environ.update(kept)
        return code, out.getvalue(), err.getvalue()


def _request(body: Body, _: Path) -> Argv:
    justification = body.pop("justification", {})
    return [
        "request",
        *body.pop("resources", []),
        *_each(body, "actions", "--action"),
        *_one(body, "duration", "--for"),
        *_one(body, "policy", "--policy"),
        *_one(body, "subject", "--subject"),
        *_one(body, "startTime", "--start"),
        *_one(body, "maxUses", "--max-uses"),
        *_one(body, "parent", "--parent"),
        *_one(body, "requestId", "--request-id"),
        *_one(justification, "text", "--justification"),
        *_one(justification, "ticket", "--ticket"),
        *_flag(body, "breakGlass", "--break-glass"),
        *_flag(body, "validateOnly", "--dry-run"),
        *_pairs(body, "labels", "--label"),
        *_facts(body),
    ]


def _decision(verb: str) -> Callable[[Body, Path], Argv]:
    """Says a decision on a grant, with the reviewer's edits if any."""

    def said(body: Body, _: Path) -> Argv:
        return [
            verb,
            str(body.pop("name")),
            *_each(body, "resources", "--resource"),
            *_each(body, "actions", "--action"),
            *_one(body, "duration", "--for"),
            *_one(body, "startTime", "--start"),
            *_one(body, "comment", "--comment"),
            *_one(body, "etag", "--etag"),
        ]

    return said


def _extend(body: Body, _: Path) -> Argv:
    justification = body.pop("justification", {})
    return [
        "extend",
        str(body.pop("name")),
        *_one(body, "duration", "--for"),
        *_one(justification, "text", "--justification"),
        *_one(justification, "ticket", "--ticket"),
    ]


def _ls(body: Body, _: Path) -> Argv:
    view = body.pop("view", "MINE")
    if view == "REVIEWABLE":
        return ["inbox"]
    if view == "REVIEW_DEBT":
        return ["review-debt"]
    return ["ls", "--view", view.lower(), *_one(body, "filter", "--filter"), *_one(body, "orderBy", "--order-by")]


def _search(body: Body, _: Path) -> Argv:
    sides = [part for key in ("subject", "action", "resource") for part in _one(body, key, f"--{key}")]
    return ["search", *sides, *_facts(body)]


def _check(body: Body, _: Path) -> Argv:
    argv = ["check", *(body.pop(key) for key in ("subject", "action", "resource"))]
    return [*argv, *_flag(body, "explain", "--explain"), *_facts(body)]


def _revoke(body: Body, _: Path) -> Argv:
    return ["revoke", body.pop("name"), *_one(body, "comment", "--comment")]


def _revoke_matching(body: Body, _: Path) -> Argv:
    # The command makes the plan itself, which is the same one as long as nothing has changed.
    body.pop("planId")
    return [
        "revoke",
        "--matching",
        "--yes",
        *_one(body, "subject", "--subject"),
        *_one(body, "policy", "--policy"),
        *_one(body, "resource", "--resource"),
        *_pairs(body, "labels", "--label"),
        *_one(body, "comment", "--comment"),
    ]


def _apply(body: Body, directory: Path) -> Argv:
    file = directory / "policies.yaml"
    file.write_text(yaml.safe_dump({"policies": body.pop("policies")}))
    return [
        "policy",
        "apply",
        str(file),
        *_one(body, "comment", "--comment"),
        *_flag(body, "prune", "--prune"),
        *_flag(body, "endMisfits", "--end-misfits"),
        *_flag(body, "validateOnly", "--dry-run"),
    ]


def _proposal(verb: str) -> Callable[[Body, Path], Argv]:
    return lambda body, _: ["policy", verb, body.pop("name"), *_one(body, "comment", "--comment")]


def _token(body: Body, _: Path) -> Argv:
    return [
        "token",
        body.pop("name"),
        *_each(body, "audience", "--audience"),
        *_one(body, "ttl", "--ttl"),
        *_one(body, "requestId", "--request-id"),
    ]


def _lock(body: Body, _: Path) -> Argv:
    lock = body.pop("lock")
    return [
        "lock",
        *([lock.pop("principal")] if "principal" in lock else []),
        *_one(lock, "group", "--group"),
        *_one(lock, "jti", "--jti"),
        *_one(lock, "comment", "--comment"),
        *_flag(lock, "endGrants", "--end-grants"),
    ]


_SAID: dict[str, Callable[[Body, Path], Argv]] = {
    GRANTS + "RequestGrant": _request,
    GRANTS + "EnsureGrant": lambda body, directory: [*_request(body, directory), "--ensure"],
    GRANTS + "GetGrant": lambda body, _: ["show", body.pop("name")],
    GRANTS + "ListGrants": _ls,
    GRANTS + "ApproveGrant": _decision("approve"),
    GRANTS + "DenyGrant": _decision("deny"),
    GRANTS + "CounterGrant": _decision("counter"),
    GRANTS + "AcceptCounterOffer": _decision("accept"),
    GRANTS + "DeclineCounterOffer": _decision("decline"),
    GRANTS + "WithdrawGrant": _decision("withdraw"),
    GRANTS + "ReleaseGrant": _decision("release"),
    GRANTS + "RevokeGrant": _revoke,
    GRANTS + "RevokeGrants": _revoke_matching,
    GRANTS + "ExtendGrant": _extend,
    GRANTS + "CompleteReview": _decision("review"),
    ACCESS + "CheckAccess": _check,
    ACCESS + "SearchAccess": _search,
    POLICIES + "ApplyPolicies": _apply,
    POLICIES + "DeletePolicy": lambda body, _: ["policy", "rm", body.pop("name")],
    POLICIES + "GetPolicyProposal": _proposal("proposal"),
    POLICIES + "ApprovePolicyProposal": _proposal("approve"),
    POLICIES + "RejectPolicyProposal": _proposal("reject"),
    TOKENS + "IssueToken": _token,
    DELEGATIONS + "DeleteDelegation": lambda body, _: ["undelegate", body.pop("name")],
    LOCKS + "CreateLock": _lock,
    LOCKS + "DeleteLock": lambda body, _: ["unlock", body.pop("name")],
}


def _one(body: Body, key: str, option: str) -> Argv:
    return [option, str(body.pop(key))] if key in body else []


def _each(body: Body, key: str, option: str) -> Argv:
    return [part for value in body.pop(key, []) for part in (option, value)]


def _flag(body: Body, key: str, option: str) -> Argv:
    return [option] if body.pop(key, False) else []


def _pairs(body: Body, key: str, option: str) -> Argv:
    return [part for name, value in body.pop(key, {}).items() for part in (option, f"{name}={value}")]


def _facts(body: Body) -> Argv:
    facts = body.pop("context", {}).items()
    return [part for name, value in facts for part in ("--context", f"{name}={json.dumps(value)}")]


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jit-cli-") as directory:
        yield Path(directory)
