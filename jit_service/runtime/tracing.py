"""Has a service export traces, by its settings."""

from __future__ import annotations

from jit_service.configuration.tracing import BY_ENVIRONMENT, headers_in
from jit_service.settings import Settings, SettingsError
from jit_service.tracing import spans
from jitaccess.extras import needed_for


class Tracing:
    """The export of traces as a part of a service: what is done before its start and after its stop is not traced.

    Raises SettingsError, ExtraMissing.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            headers = headers_in(settings.traces_headers_file) if settings.traces_headers_file is not None else {}
        except ValueError as fault:
            raise SettingsError(str(fault)) from None
        # Its import is the price of a start, which those who trace nothing do not pay.
        with needed_for("JIT_TRACES", "jit-service[otel]"):
            from jit_service.tracing.otlp import OtlpExporter
        endpoint = None if settings.traces == BY_ENVIRONMENT else settings.traces
        self._exporter = OtlpExporter(endpoint, ratio=settings.traces_ratio, headers=headers)

    def start(self) -> None:
        """Begins to trace."""
        spans.use(self._exporter)

    def stop(self) -> None:
        """Ends, and sends what is left for two seconds at most."""
        spans.use(None)
        self._exporter.stop()
