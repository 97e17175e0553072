"""TLS of an Envoy: at its listener, and on its way to the service.

Envoy gets its certificates by SDS from files beside its configuration. So it takes them anew, without a restart, when
the files that these name are replaced (renamed over, as Kubernetes and ACME clients do).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from jit_service.configuration.certificate import TlsFiles

_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """How Envoy proves the service: by `authority`, which signed its certificate, and `name`, which that is for.

    `name` is a host's name, an IP address or a URI. With a `certificate` Envoy proves itself to the service.
    """

    authority: Path
    name: str
    certificate: TlsFiles | None = None


def secure_listener(config: Any, overlay: Path, files: TlsFiles, directory: Path) -> None:
    """Gives the listener TLS as the overlay has it, by these files."""
    (listener,) = yaml.safe_load(overlay.read_text())["static_resources"]["listeners"]
    socket = listener["filter_chains"][0]["transport_socket"]
    _name_certificate(socket["typed_config"]["common_tls_context"], files, directory, "edge")
    config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = socket
    _name_node(config)


def secure_clusters(config: Any, overlay: Path, upstream: Upstream, directory: Path) -> None:
    """Gives all clusters TLS as the overlay has it, by what the upstream says."""
    socket = yaml.safe_load(overlay.read_text())["static_resources"]["clusters"][0]["transport_socket"]
    context = socket["typed_config"]["common_tls_context"]
    if upstream.certificate is None:
        del context["tls_certificates"]
    else:
        _name_certificate(context, upstream.certificate, directory, "upstream")
    kind = _kind(upstream.name)
    if kind == "DNS":
        socket["typed_config"]["sni"] = upstream.name
    else:
        del socket["typed_config"]["sni"]
    authority = {"validation_context": {"trusted_ca": {"filename": str(upstream.authority.resolve())}}}
    del context["validation_context"]
    context["combined_validation_context"] = {
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": upstream.name}}]
        },
        "validation_context_sds_secret_config": _secret("upstream-authority", authority, directory),
    }
    for cluster in config["static_resources"]["clusters"]:
        cluster["transport_socket"] = socket
    _name_node(config)


def _name_node(config: Any) -> None:
    # Envoy demands a name of its own where it subscribes to anything, to a file too.
    config["node"] = {"id": "jit", "cluster": "jit"}


def _name_certificate(context: Any, files: TlsFiles, directory: Path, of: str) -> None:
    del context["tls_certificates"]
    content = {
        "tls_certificate": {
            "certificate_chain": {"filename": str(files.chain.resolve())},
            "private_key": {"filename": str(files.key.resolve())},
        }
    }
    context["tls_certificate_sds_secret_configs"] = [_secret(f"{of}-certificate", content, directory)]


def _secret(name: str, content: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Writes DIRECTORY/NAME.yaml, which has no secret in itself, and returns what refers to it."""
    path = directory.resolve() / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"resources": [{"@type": _SECRET, "name": name, **content}]}, sort_keys=False))
    path.chmod(0o644)
    return {"name": name, "sds_config": {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}}


def _kind(name: str) -> str:
    if "://" in name:
        return "URI"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP_ADDRESS"
