"""The README's first pastes do what it says, as they stand, but for the addresses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.test_commands import up

ROOT = Path(__file__).parents[1]


def test_a_first_request_in_three_pastes(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("## A first request in three pastes") : readme.index("## States of a grant")]
    pastes = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    assert len(pastes) == 3

    with up(tmp_path) as (_, ready):
        here = {
            "http://127.0.0.1:8080": ready["http"],
            "127.0.0.1:8081": ready["grpc"],
            ".data/dev/tokens": str(tmp_path / "dev" / "tokens"),
            ".venv/bin": str(Path(sys.executable).parent),
        }
        told: list[str] = []
        for paste in pastes:
            if told:
                here["approve ID"] = "approve " + json.loads(told[0])["name"]
            text = paste
            for written, real in here.items():
                text = text.replace(written, real)
            told.append(
                subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=True, timeout=60).stdout
            )

    assert '"state":"PENDING"' in told[0]
    assert "is ACTIVE" in told[1]
    assert "rows.create True ALLOWED" in told[2]
    assert "rows.delete False NO_GRANT" in told[2]
