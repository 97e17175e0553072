"""`python -m tests.soak`: runs the service under load and faults, and judges it. Started by `make soak`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Any

# The service is started from a process that calls it: gRPC has nothing to do in the child before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from bench.machine import ROOT
from tests.soak import page, picture
from tests.soak.run import PAUSES, Plan, soak

DIRECTORY = ROOT / ".data" / "soak"
_A_DAY = 23 * 3600
"""The tokens of a run are valid for a day."""


def main() -> int:
    """Does a run, and returns the status: 1 where a property was violated."""
    given = _arguments()
    plan = Plan(
        seconds=given.seconds,
        seed=given.seed,
        transport=given.transport,
        database=given.database,
        pauses=tuple(given.pauses),
        rate=given.rate,
        new=given.new,
    )
    # So that an end by TERM, as by a timeout, ends what was started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    shutil.rmtree(given.directory, ignore_errors=True)
    given.directory.mkdir(parents=True)
    say(f"seed {plan.seed}: {plan.seconds:g} s on {plan.transport} and {plan.database}; files in {given.directory}")
    result = soak(plan, given.directory, say)
    write(result, given.directory)
    if given.publish:
        publish(result, ROOT / "docs")
    say(summary(result))
    return 0 if result["passed"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, a day at most")
    parser.add_argument("--seed", type=int, help="who does what, and which fault comes when; by default a new one")
    parser.add_argument("--transport", choices=["grpcio", "native"], default="grpcio")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rate", type=float, default=0, help="calls a second of all clients [as many as are answered]")
    parser.add_argument("--new", type=float, default=0, help="questions a second to each worker that nobody repeats")
    parser.add_argument("--pauses", type=float, nargs=2, default=PAUSES, help="seconds between faults: least, most")
    parser.add_argument("--directory", type=Path, help="where files go; it is emptied [.data/soak/DATABASE]")
    parser.add_argument("--publish", action="store_true", help="write docs/soak.md, its figures and its picture")
    given = parser.parse_args()
    if not 1 <= given.seconds <= _A_DAY:
        parser.error(f"--seconds is from 1 to {_A_DAY}")
    if min(given.rate, given.new) < 0:
        parser.error("--rate and --new are 0 or more")
    if not 0 < given.pauses[0] <= given.pauses[1]:
        parser.error("--pauses are the least and the most seconds, above 0")
    given.directory = given.directory or DIRECTORY / given.database
    if given.seed is None:
        given.seed = SystemRandom().randrange(1 << 31)
    return given


def write(result: dict[str, Any], directory: Path) -> None:
    """Writes the result and its picture."""
    (directory / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "soak.svg").write_text(picture.svg(result))


def publish(result: dict[str, Any], docs: Path) -> None:
    """Writes the page, and beside it the figures and the pictures that it was made from, one for each database."""
    figures = docs / "soak"
    figures.mkdir(exist_ok=True)
    # What is sampled all along is in the picture.
    kept = {name: value for name, value in result.items() if name != "samples"}
    (figures / f"{result['database']}.json").write_text(json.dumps(kept, indent=1) + "\n")
    (figures / f"{result['database']}.svg").write_text(picture.svg(result))
    (docs / "soak.md").write_text(page.published(docs))


def summary(result: dict[str, Any]) -> str:
    """Returns the verdict in a few lines."""
    lines = [f"{'passed' if result['passed'] else 'FAILED'}: {result['command']}"]
    for each in result["properties"]:
        mark = "FAILED" if each["violations"] else "ok"
        lines.append(f"  {mark:<6} {each['name']}: {each['violations']} of {each['trials']:,}")
        lines += [f"         {example.splitlines()[0]}" for example in each.get("examples", [])[:3]]
    return "\n".join(lines)


def say(text: str) -> None:
    """Tells people, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
