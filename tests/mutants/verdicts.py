"""The verdicts on mutants, in a file that is kept from one run of `make mutants` to the next.

A verdict stands while the source of the mutated function is the same and, of a mutant that was killed, the test that
killed it. One that survived is judged again by those tests alone that are new or changed since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """What was seen of a mutant, of a function whose source has the digest `source`.

    `killed`: the test `by`, whose digest is `judged`, failed. `timeout`: it took too long, or the process ended (then
    `by` is empty). `survived`: the tests whose digests are `judged` passed.
    """

    mutant: str
    source: str
    status: str
    by: str
    judged: str


@dataclass
class Verdicts:
    """The file: a JSON object a line, of which the last about a mutant counts."""

    path: Path
    known: dict[str, Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self.known = {verdict.mutant: verdict for verdict in self._read()}

    def _read(self) -> Iterator[Verdict]:
        text = self.path.read_text() if self.path.exists() else ""
        for line in text.splitlines():
            # A run that was killed may have left its last line cut off.
            if line.endswith("}"):
                yield Verdict(**json.loads(line))
        if text and not text.endswith("\n"):
            with self.path.open("a") as file:
                file.write("\n")

    def add(self, verdict: Verdict) -> None:
        self.known[verdict.mutant] = verdict
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")

    def status(self, mutant: str, source: str) -> str:
        """Returns what was seen of the mutant, if its function is still the same."""
        known = self.known.get(mutant)
        return known.status if known is not None and known.source == source else "not judged"

    def still_to_run(self, mutant: str, source: str, tests: Mapping[str, str]) -> set[str]:
        """Returns which of the tests, given with their digests, have not judged the mutant as it is."""
        known = self.known.get(mutant)
        if known is None or known.source != source:
            return set(tests)
        if known.status == "survived":
            judged = set(known.judged.split())
            return {test for test, digest in tests.items() if digest not in judged}
        return set() if tests.get(known.by) == known.judged else set(tests)
