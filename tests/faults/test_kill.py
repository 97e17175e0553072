"""kill -9 under load: nothing that was acknowledged is lost, and the log is whole (I3, I4, I19, I20).

This does not test what survives a power loss: the kernel keeps what a killed process has written. A round is one kill;
`KILL_ROUNDS` makes more of them.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jit_service.domain.audit.event import EventType
from jit_service.runtime.service import utc_now
from jit_service.storage import Store
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import audit
from jit_service.use_cases.keyring import secrets_of
from jitaccess import JitClient, JitError
from tests.storage.people import ADMIN
from tests.test_commands import token, up

ALICE = "user:alice@example.com"
ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))
CLIENTS = 4
ANSWERS = 60


class Acknowledged:
    """What the clients were told, over all rounds."""

    def __init__(self) -> None:
        self.decisions: set[str] = set()
        self.revoked: set[str] = set()
        self.enough = threading.Event()
        self._lock = threading.Lock()

    def decided(self, decision: str, goal: int) -> None:
        with self._lock:
            self.decisions.add(decision)
            if len(self.decisions) >= goal:
                self.enough.set()


def checking_until_it_dies(address: str, token_of_gateway: str, told: Acknowledged, goal: int) -> None:
    with JitClient(address, token=token_of_gateway, timeout=5, retry=None) as gateway:
        while True:
            try:
                told.decided(gateway.check(ALICE, "read", "database/orders/eu").decision_id, goal)
            except JitError:
                return


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path, transport: str) -> None:
    told = Acknowledged()
    for number in range(ROUNDS):
        told.enough.clear()
        with up(tmp_path, "--transport", transport) as (process, ready), ThreadPoolExecutor(CLIENTS) as pool:
            with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as alice:
                grant = alice.request(["database/orders/eu"], ["read"])
                goal = (number + 1) * ANSWERS
                for _ in range(CLIENTS):
                    pool.submit(checking_until_it_dies, ready["grpc"], token(tmp_path, "gateway"), told, goal)
                assert told.enough.wait(timeout=60)
                alice.release(grant.name)
                told.revoked.add(grant.name)
            process.kill()
            process.wait(timeout=10)

    store = Store(
        f"sqlite:///{tmp_path / 'jit.db'}", clock=utc_now, keys=SealingKeys.of(*secrets_of(tmp_path / "token.key"))
    )
    recorded = logged(store)
    assert told.decisions - recorded.keys() == set()
    assert not audit.verify(store).problem
    with store.snapshot() as snapshot:
        ended = {name: snapshot.grant(name) for name in told.revoked}
    assert all(grant is not None and grant.end is not None for grant in ended.values())
    store.close()


def logged(store: Store) -> dict[str, str]:
    found: dict[str, str] = {}
    page_token = ""
    while True:
        page = audit.list_page(
            store,
            ADMIN,
            filter_text=f"event_type = {EventType.ACCESS_CHECKED}",
            order_by="seq",
            page_size=1000,
            page_token=page_token,
        )
        found |= {event.event.decision_id: event.event.decision for event in page.events}
        page_token = page.next_page_token
        if not page_token:
            return found
