"""The file of issuers is taken as it is after a change, in a running service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jitaccess import JitClient, Unauthenticated
from tests.faults.conftest import Serve
from tests.rpc.tokens import Forge


def is_soon(condition: Callable[[], bool]) -> bool:
    """The one wait on the real clock: a thread of the service looks at the file."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_an_issuer_that_is_taken_out_of_the_file_proves_nobody_from_then_on(serve: Serve, tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    path = tmp_path / "issuers.json"

    def write(content: str) -> None:
        (tmp_path / "beside").write_text(content)
        (tmp_path / "beside").replace(path)

    listed = json.dumps([json.loads(forge.issuer().model_dump_json(exclude_none=True))])
    write(listed)
    rig = serve(issuers_file=path)
    with JitClient(str(rig.grpc), token=forge.token(rig.clock())) as client:

        def passes() -> bool:
            try:
                list(client.list_grants())
            except Unauthenticated as refusal:
                return refusal.reason != "TOKEN_INVALID"
            return True

        before = passes()
        stream = client.watch_grants(heartbeats=True)
        next(stream)
        write("- issuer: [broken")
        broken = passes()
        write("[]")
        gone = is_soon(lambda: not passes())
        with pytest.raises(Unauthenticated) as ended:
            for _ in stream:
                pass
        write(listed)

        assert ended.value.reason == "TOKEN_INVALID"
        assert (before, broken, gone) == (True, True, True)
        assert is_soon(passes)
