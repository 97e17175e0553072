"""Writes requirements/*.txt: universal, with hashes, without any registry's name.

`requirements/dev.txt` is everything; `requirements/runtime.txt` is what a production host needs;
`requirements/bench.txt` is what the benchmark needs, at the versions of the others: it must measure what runs;
`requirements/chart.txt` is what tests of the Helm chart need beside `dev.txt`;
`requirements/release.txt` is what makes a release's bill of materials, and `requirements/docs.txt` what builds the site
of the documents; these two have nothing to do with the others.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = {
    "requirements/dev.txt": ["pyproject.toml", "--group", "dev", "--all-extras"],
    "requirements/runtime.txt": ["pyproject.toml", "--all-extras"],
    "requirements/bench.txt": [
        *("pyproject.toml", "--group", "bench", "--all-extras"),
        *("--constraint", "requirements/dev.txt"),
    ],
    "requirements/chart.txt": ["--group", "chart", "--constraint", "requirements/dev.txt"],
    "requirements/release.txt": ["--group", "release"],
    "requirements/docs.txt": ["--group", "docs"],
}


def main() -> None:
    uv = Path(sys.executable).parent / "uv"
    for path, selection in LOCKS.items():
        command = [uv, "pip", "compile", *selection, "--universal", "--generate-hashes"]
        command += ["--no-emit-package", "jitaccess", "--python-version", "3.11", "--no-annotate", "--no-strip-extras"]
        command += ["--custom-compile-command", "make lock", "--quiet", "--output-file", path]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
