"""Which tests one worker of pytest-xdist runs together, and what begins.

What a module or a directory starts for all its tests, such as a service behind Envoy or a browser, is started once if
one worker has them all. xdist's own `--dist loadgroup` cannot say so: it writes `Item._nodeid`, which pytest has not
read since 9.2. Each other test is given to whichever worker is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

TOGETHER = (
    "tests/cli/test_end_to_end.py",
    "tests/cli/test_process.py",
    "tests/console/",
    "tests/faults/test_workers.py",
    "tests/login/",
    "tests/rest/test_dev_provider.py",
    "tests/rest/test_passing.py",
    "tests/rest/test_protected_resource.py",
    "tests/rpc/test_any_input.py",
    "tests/storage/test_postgresql.py",
    "tests/stories/test_examples.py",
    "tests/stories/test_told.py",
    "tests/stories/test_who.py",
    "tests/test_pastes.py",
    "tests/test_recipes.py",
    "tests/tools/test_install.py",
    "tests/tools/test_mutants.py",
)
"""Files and directories whose tests share what takes long to start, or mostly wait, so that one worker is enough."""
LONG = (
    "tests/domain/grants/test_grant_machine.py",
    "tests/openapi/test_fuzz.py",
    "tests/reliability/",
    "tests/soak/test_soak.py",
    "tests/storage/test_faults.py",
    "tests/storage/test_lifecycle_machine.py",
    "tests/storage/test_past_machine.py",
)
"""Files and directories with a test of about ten seconds or more. They begin first, to not run alone at the end."""


def unit_of(nodeid: str) -> str:
    """Returns the name of what a worker runs as a whole: a file, a directory, or the test alone."""
    return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


def is_long(nodeid: str) -> bool:
    """Whether the test is one of the long ones."""
    return nodeid.startswith(LONG)


class Collection(list[str]):
    """The ids of a worker's tests. xdist asks for the place of each, which a list searches from its beginning."""

    def __init__(self, nodeids: Sequence[str]) -> None:
        super().__init__(nodeids)
        self._places = {nodeid: place for place, nodeid in enumerate(nodeids)}

    def index(self, nodeid: str, *_: Any) -> int:
        return self._places[nodeid]


class Schedule(LoadScopeScheduling):
    """Gives out the units with the most tests first, and single tests in the order of the collection."""

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            self.registered_collections[node] = Collection(collection)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        # At each end all that was ever given to the worker is counted through, so what is done is forgotten.
        assigned = self.assigned_work[node]
        unit = unit_of(self.registered_collections[node][item_index])
        if all(assigned[unit].values()):
            del assigned[unit]
