"""Reads metrics as a scraper does."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from jit_service.metrics.families import Values
from jit_service.runtime.metrics_port import exposition

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._found: Found = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def of(self, name: str, **labels: str) -> float:
        """Returns the sample; 0 where there is none, as before the first count."""
        return self._found.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples that have these labels, and others."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self._found.items() if found == name and wanted <= has)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._found}


def shown(values: Values) -> Scraped:
    return Scraped(exposition(values)[0].decode())


def scraped(url: str) -> Scraped:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return Scraped(answer.read().decode())
