"""Generates the TypeScript client's types of REST (from the OpenAPI document) and its messages of gRPC-Web.

The generators are npm packages, which `make` installs from clients/typescript/package-lock.json where there is npm.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parent.parent
CLIENT = "clients/typescript"
MODULES = ROOT / CLIENT / "node_modules"
GENERATED = f"{CLIENT}/src/gen"


def missing() -> str:
    """Returns one line that says why nothing can be generated; empty if it can be."""
    if shutil.which("node") is None:
        return "there is no node, so clients/typescript is left as it is"
    return "" if MODULES.exists() else "no npm ci in clients/typescript yet, so it is left as it is"


def typescript(out: Path, *, document: Path, descriptors: Path, protoc: Callable[..., None]) -> None:
    """Writes OUT/clients/typescript/src/gen. `protoc` runs the compiler with the project's include paths."""
    generated = out / GENERATED
    generated.mkdir(parents=True)
    node = [str(shutil.which("node")), MODULES / "openapi-typescript/bin/cli.js"]
    command = [*node, document, "--output", generated / "openapi.ts", "--alphabetize"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    protoc(
        f"--plugin=protoc-gen-es={MODULES / '.bin/protoc-gen-es'}",
        f"--es_out={generated}",
        "--es_opt=target=ts,import_extension=js",
        *_protos(descriptors),
    )
    # Google's options for publishing its own clients do not concern ours.
    for file in (generated / "google").rglob("*.ts"):
        file.write_text(re.sub(r" */\*\*.*?\*/\n", "", file.read_text(), flags=re.DOTALL))


def _protos(descriptors: Path) -> list[str]:
    """Returns the files of services that REST has too, and those of their imports that the runtime lacks."""
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file}
    waiting = [name for name, file in files.items() if _has_routes(file)]
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in wanted and not name.startswith("google/protobuf/"):
            wanted.add(name)
            waiting += files[name].dependency
    return sorted({*wanted, "google/rpc/error_details.proto"})


def _has_routes(file: descriptor_pb2.FileDescriptorProto) -> bool:
    methods = [method for service in file.service for method in service.method]
    return any(method.options.HasExtension(annotations_pb2.http) for method in methods)
