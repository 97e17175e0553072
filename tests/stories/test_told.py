"""Every story in YAML, over gRPC, REST and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cli_surface import Cli
from tests.conftest import Clock
from tests.stories.telling import Tale, Telling, tales
from tests.world import Grpc, Rest, Story, Surface, World, running_world

SURFACES: dict[str, Callable[[World], Surface]] = {"grpc": Grpc, "rest": Rest, "cli": Cli}


@pytest.fixture(scope="session")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which two admins change a policy."""
    directory = tmp_path_factory.mktemp("d")
    url = f"sqlite:///{directory / 'jit.db'}"
    with running_world(directory, Clock(), url, policies_dual_control=True) as world:
        yield world


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("tale", list(tales()), ids=lambda tale: tale.id)
def test_story(request: pytest.FixtureRequest, tale: Tale, surface: str) -> None:
    world: World = request.getfixturevalue("dual" if tale.dual_control else "world")
    Telling(Story(world, SURFACES[surface](world))).tell(tale)
