"""Copies google/api and google/rpc protos from the installed googleapis-common-protos into third_party/.

buf resolves imports from a workspace module, and this one comes from the lock instead of from a network registry.
"""

import shutil
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).parent.parent
WANTED = ("google/api/", "google/rpc/")


def main() -> None:
    target = ROOT / "third_party"
    for file in files("googleapis-common-protos") or []:
        if file.suffix == ".proto" and file.as_posix().startswith(WANTED):
            path = target / file
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), path)


if __name__ == "__main__":
    main()
