"""Generates files from the protos and the code; with --check, names what is out of date or not in git.

First from the protos alone: the Python messages and stubs, the values and exports of the Python client, and the
descriptor set that Envoy transcodes with. Then from the protos and the service's code: the OpenAPI document, the
reference of the API, the table of who may do what, the pages of all settings and of all metrics, and (where npm has
been) the generated part of the TypeScript client. Each step imports what the one before makes, so that is written
before the next begins: a new message or service can be used at once. Last, where npm has been, the console, which is
built of that client.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import client_model
import console
import grpc_tools
import typescript
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
SITE = Path(sysconfig.get_path("purelib"))
INCLUDES = [ROOT / "proto", SITE, Path(grpc_tools.__file__).parent / "_proto"]
PYTHON = "clients/python"
# Envoy's own API, of which the service speaks a part. Its code must not be a package `envoy`: Envoy's wheel is that.
ENVOY_PROTOS = [ROOT / "proto" / "envoy" / "service" / api / "v3" for api in ("auth", "ext_proc")]
ENVOY_PYTHON = "jit_service/rpc/envoy/generated"
DESCRIPTORS = "envoy/jitaccess.binpb"
OPENAPI = "jit_service/pages/openapi.json"
REFERENCE = "docs/reference.md"
PERMISSIONS = "docs/permissions.md"
SETTINGS = "docs/settings.md"
METRICS = "docs/metrics.md"
ARCHITECTURE = "ARCHITECTURE.md"
# Envoy answers with an empty body if it does not know the type of an error's details, so the set must have these.
NAMED_FOR_ENVOY = ["google/rpc/error_details.proto", "google/rpc/status.proto"]


def run_protoc(*arguments: str) -> None:
    status = protoc.main(["protoc", *(f"-I{path}" for path in INCLUDES), *arguments])
    if status != 0:
        sys.exit(f"protoc ended with status {status}")


def _python_into(directory: Path) -> list[str]:
    return [f"--{kind}={directory}" for kind in ("python_out", "grpc_python_out")] + [
        f"--{kind}=quiet:{directory}" for kind in ("mypy_out", "mypy_grpc_out")
    ]


def _protos() -> list[str]:
    paths = [path for path in (ROOT / "proto").rglob("*.proto") if path.parent not in ENVOY_PROTOS]
    return sorted(path.relative_to(ROOT / "proto").as_posix() for path in paths)


def _rpcs() -> set[str]:
    """Returns every method of the contract, from the generated descriptors."""
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / DESCRIPTORS).read_bytes()).file
    services = [(file.package, service) for file in files for service in file.service]
    return {f"/{package}.{service.name}/{method.name}" for package, service in services for method in service.method}


def generate_code(out: Path) -> None:
    """Writes what is generated from the protos alone."""
    python, descriptors = out / PYTHON, out / DESCRIPTORS
    python.mkdir(parents=True)
    descriptors.parent.mkdir(parents=True)
    run_protoc(*_python_into(python), *_protos())
    client_model.generate(out, run_protoc, _protos())
    # A mapped path names the files, and so the modules, as if they stood there.
    for directory in ENVOY_PROTOS:
        (proto,) = directory.glob("*.proto")
        run_protoc(*_python_into(out), f"-I{ENVOY_PYTHON}={directory}", f"{ENVOY_PYTHON}/{proto.name}")
    run_protoc("--include_imports", f"--descriptor_set_out={descriptors}", *_protos(), *NAMED_FOR_ENVOY)


def generate_pages(out: Path) -> None:
    """Writes what depends on the service's code too. Imports the service, and so the generated code of the tree."""
    from openapi import openapi
    from permissions import page as permissions
    from reference import reference
    from rooms import with_table

    from jit_service.configuration import table
    from jit_service.metrics.page import page as metrics_page
    from jit_service.rpc.authorization import RULES
    from jit_service.settings import Settings

    if missing := sorted(_rpcs() - RULES.keys()):
        sys.exit(f"RULES in jit_service/rpc/authorization.py does not say who may call {', '.join(missing)}")
    document = out / OPENAPI
    document.parent.mkdir(parents=True)
    document.write_text(openapi(run_protoc, _protos()))
    page = out / REFERENCE
    page.parent.mkdir(parents=True)
    page.write_text(reference(run_protoc, _protos()))
    (out / PERMISSIONS).write_text(permissions())
    (out / SETTINGS).write_text(table.page(Settings))
    (out / METRICS).write_text(metrics_page())
    (out / ARCHITECTURE).write_text(with_table((ROOT / ARCHITECTURE).read_text(encoding="utf-8")))
    if not typescript.missing():
        typescript.typescript(out, document=document, descriptors=ROOT / DESCRIPTORS, protoc=run_protoc)


def generate_console(out: Path) -> None:
    """Writes the console's pages. Their names change with their content, so what is not made again is to be removed."""
    if not console.missing():
        console.console(out)


def left_over() -> list[Path]:
    """Returns the files of the console's pages that the page of the tree does not load."""
    pages = ROOT / console.BUILT
    page = (pages / "console.html").read_text(encoding="utf-8")
    return [path for path in sorted((pages / "assets").iterdir()) if f"/assets/{path.name}" not in page]


def made_by(step: Callable[[Path], None]) -> dict[Path, bytes]:
    """Returns what the step makes, by its path in the tree."""
    with tempfile.TemporaryDirectory() as directory:
        step(Path(directory))
        paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        return {ROOT / path.relative_to(directory): path.read_bytes() for path in paths}


def stale(made: dict[Path, bytes]) -> dict[Path, bytes]:
    """Returns what of it the tree has not, or has otherwise."""
    return {path: content for path, content in made.items() if not path.exists() or path.read_bytes() != content}


def unknown_to_git(paths: Iterable[Path]) -> list[Path]:
    """Returns those of the paths that git does not have: a commit of all the others would be without them."""
    if not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    known = {ROOT / name for name in listed.split("\0")}
    return [path for path in paths if path not in known]


def _check(made: dict[Path, bytes]) -> None:
    """Exits if the tree has not what was made, or has it without git."""
    if found := stale(made):
        sys.exit(f"not what the protos and the code give; run `make proto`: {_names(found)}")
    if unknown := unknown_to_git(made):
        sys.exit(f"made from the protos and the code, and not in git; `git add` it: {_names(unknown)}")


def _write(made: dict[Path, bytes]) -> None:
    for path, content in stale(made).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.relative_to(ROOT).as_posix() for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    check = parser.parse_args().check
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # protoc-gen-mypy
    for why in filter(None, (typescript.missing(), console.missing())):
        print(why, file=sys.stderr)
    for step in (generate_code, generate_pages, generate_console):
        (_check if check else _write)(made_by(step))
    for path in left_over():
        if check:
            sys.exit(f"the console's page does not load {path.relative_to(ROOT)}; run `make proto`")
        path.unlink()


if __name__ == "__main__":
    main()
