"""The generated messages of the contract, all of them, so that a test of every service has the newest one too."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import jitaccess.v1

MODULES = {
    found.name: import_module(f"jitaccess.v1.{found.name}")
    for found in pkgutil.iter_modules(jitaccess.v1.__path__)
    if found.name.endswith("_pb2")
}
