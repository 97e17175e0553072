"""Every story in YAML, over gRPC, REST and the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli_surface import Cli
from tests.stories.telling import Tale, Telling, tales
from tests.world import Grpc, Rest, Story, Surface, World

SURFACES: dict[str, Callable[[World], Surface]] = {"grpc": Grpc, "rest": Rest, "cli": Cli}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("tale", list(tales()), ids=lambda tale: tale.id)
def test_story(world: World, tale: Tale, surface: str) -> None:
    Telling(Story(world, SURFACES[surface](world))).tell(tale)
