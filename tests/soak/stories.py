"""What the drivers of a run do: access that is asked for, decided, used, and over, each time in another way.

A driver asks right after each ack, on every way, so that a stale answer has no time to become right. Each life of a
grant has a resource of its own, which is the key of its history.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from math import inf
from random import Random
from typing import TypeVar

from jit_service.runtime.service import utc_now
from jitaccess import (
    FailedPrecondition,
    Grant,
    JitClient,
    JitError,
    NotFound,
    ResourceExhausted,
    RevocationPlan,
    Signal,
    Unavailable,
)
from tests.soak.asking import CLOCKS, Board, Life, Reader
from tests.soak.clients import Clients
from tests.soak.pace import Pace
from tests.soak.people import ADMIN, forbidding, owner, requester
from tests.soak.place import Place
from tests.soak.told import Told
from tests.world import Person

T = TypeVar("T")
HOUR = timedelta(hours=1)


class Driver:
    """Tells one story after the other, as the seed has it, with people of its own.

    `prefix` tells its resources from those of an earlier driver on the same store.
    """

    def __init__(self, site: Place, told: Told, board: Board, number: int, random: Random, *, prefix: str = "") -> None:
        self.number = number
        self._prefix = prefix
        self.random = random
        self.told = told
        self.requester = requester(number)
        self.owners = [owner(2 * number), owner(2 * number + 1)]
        self._site = site
        self._board = board
        self._clients = Clients(site, told, random)
        self._reader = Reader(site, told, self._clients)
        self._count = 0

    def run(self, pace: Pace) -> None:
        """Goes on until the run stops; a story that a fault has cut off is left, and the next begins."""
        while not self._site.stopping.is_set():
            pace.wait()
            try:
                self.random.choice(STORIES)(self)
            except JitError:
                self.pause(0.1)
        self._clients.close()

    def pause(self, longest: float) -> None:
        """Waits for a while, so that others may ask meanwhile."""
        time.sleep(self.random.uniform(0, longest))

    def new_id(self) -> str:
        """Returns a request_id, from the seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def life(self, kind: str) -> Life:
        """Returns a life that has not begun."""
        self._count += 1
        life = Life(resource=f"{kind}/{self.number}/{self._prefix}{self._count}", subject=self.requester.principal)
        self._board.add(life)
        return life

    def asks(self, life: Life, *, lasts: timedelta = HOUR, labels: dict[str, str] | None = None) -> Grant:
        """Asks for the access: it is given at once, or waits."""
        at_once = life.resource.startswith(("auto/", "deny/"))

        def ask(client: JitClient, request_id: str) -> Grant:
            return client.request(life.resource, "read", duration=lasts, labels=labels, request_id=request_id)

        grant = self.write(self.requester, life if at_once else None, True, "GRANT_REQUESTED", ask)
        life.grant = grant.name
        return grant

    def ends(self, life: Life, person: Person, event: str, do: Callable[[JitClient, str], Grant]) -> None:
        """Ends it, and asks on every way."""
        state = event.removeprefix("GRANT_")
        self.write(person, life, False, event, do, state=state)
        self.everywhere(life)
        self.told.close(life.resource)

    def revokes(self, life: Life) -> None:
        self.ends(life, ADMIN, "GRANT_REVOKED", lambda to, id_: to.revoke(life.grant, comment="over", request_id=id_))

    def releases(self, life: Life) -> None:
        self.ends(life, self.requester, "GRANT_RELEASED", lambda to, id_: to.release(life.grant, request_id=id_))

    def ends_somehow(self, life: Life) -> None:
        self.random.choice((Driver.revokes, Driver.releases))(self, life)

    def approves(self, life: Life, by: Person, *, is_last: bool) -> None:
        """Approves it; the last approval gives the access."""

        def approve(client: JitClient, request_id: str) -> Grant:
            return client.approve(life.grant, request_id=request_id)

        self.write(by, life if is_last else None, True, "GRANT_APPROVED", approve)

    def runs_out(self, life: Life, grant: Grant) -> None:
        """Waits for the end of its time, and asks on every way."""
        if grant.expire_time is None:
            return
        self.told.acked("GRANT_EXPIRED", life.grant, state="EXPIRED")
        self.passes(life, grant.expire_time)
        self.everywhere(life)
        self.told.close(life.resource)

    def turns(self, life: Life, value: bool, event: str, about: str, do: Callable[[JitClient, str], object]) -> None:
        """Has an admin turn the access on or off by other means than its end, and asks on every way."""
        self.write(ADMIN, life, value, event, do, about)
        self.everywhere(life)

    def sets(self, life: Life, name: str, until: datetime) -> None:
        """Sets the signal until an instant, the same at each attempt, and asks on every way."""

        def set_it(client: JitClient, request_id: str) -> Signal:
            return client.set_signal(name, "on", expire_time=until, request_id=request_id)

        self.turns(life, True, "SIGNAL_SET", name, set_it)

    def sets_until_it_runs_out(self, life: Life, name: str) -> None:
        """Sets the signal for a moment, and asks before and after its end."""
        until = utc_now() + timedelta(seconds=self.random.uniform(0.3, 1))
        self.sets(life, name, until)
        self.passes(life, until)
        self.everywhere(life)

    def passes(self, life: Life, ends_at: datetime) -> None:
        """Waits for the instant at which the access ends by itself."""
        at = time.monotonic() + ends_at.timestamp() - time.time()
        self.told.wrote(life.resource, False, at - CLOCKS, at + CLOCKS, by="time")
        time.sleep(max(0.0, at + CLOCKS - time.monotonic()))

    def everywhere(self, life: Life) -> None:
        """Asks on every way."""
        for way in self._site.ways:
            with suppress(JitError):
                self._reader.check(life, way)

    def write(
        self,
        person: Person,
        life: Life | None,
        value: bool,
        event: str,
        do: Callable[[JitClient, str], T],
        about: str = "",
        state: str = "",
    ) -> T:
        """Makes a write of one event, which turns the life's access on or off; with none it does neither."""
        request_id = self.new_id()
        began = time.monotonic()
        try:
            answer = self._clients.until_known(person, event, lambda client: do(client, request_id))
        except JitError:
            # Who lost an answer and is refused the next time cannot tell what was done.
            if life is not None:
                self.told.forget(life.resource)
            raise
        if life is not None:
            self.told.wrote(life.resource, value, began, min(time.monotonic(), _end_of(answer) - CLOCKS))
        name = answer.name if isinstance(answer, Grant) else about
        self.told.acked(event, name, request_id, state=state)
        return answer

    def plan_and_revoke(self, lives: list[Life], labels: dict[str, str]) -> None:
        """Ends all that have the labels at once: every one of them, or none."""
        admin = self._clients
        plan = admin.until_known(ADMIN, "plan", lambda client: client.plan_revocation(labels=labels))
        request_id = self.new_id()
        began = time.monotonic()

        def revoke(client: JitClient) -> RevocationPlan:
            return client.revoke_grants(plan.plan_id, comment="over", labels=labels, request_id=request_id)

        try:
            admin.until_known(ADMIN, "GRANTS_REVOKED", revoke)
        except JitError:
            # Who never had an answer cannot tell whether they have ended.
            for life in lives:
                self.told.forget(life.resource)
            raise
        ended = time.monotonic()
        self.told.acked("GRANTS_REVOKED", "", request_id)
        for life in lives:
            self.told.wrote(life.resource, False, began, ended)
            self.told.acked("GRANT_REVOKED", life.grant, request_id, state="REVOKED")

    def extends(self, life: Life, by: timedelta) -> Grant:
        """Asks for more time. Where nobody knows whether it was given, nothing is known of the life any more."""

        def extend(client: JitClient, request_id: str) -> Grant:
            return client.extend(life.grant, by, request_id=request_id)

        try:
            return self.write(self.requester, None, True, "EXTENSION_REQUESTED", extend)
        except (Unavailable, ResourceExhausted):
            self.told.forget(life.resource)
            raise

    def issues_token(self, life: Life) -> None:
        """Lets readers ask about the grant's token, too."""
        request_id = self.new_id()

        def issue(client: JitClient) -> str:
            return client.issue_token(life.grant, audience="https://orders.example.com", request_id=request_id).token

        life.token = self._clients.until_known(self.requester, "TOKEN_ISSUED", issue)
        self.told.acked("TOKEN_ISSUED", life.grant, request_id)


def _end_of(answer: object) -> float:
    """Returns when by the run's clock the time is over of what a write gave; a late ack does not give it again."""
    if not isinstance(answer, Grant | Signal) or answer.expire_time is None:
        return inf
    return time.monotonic() + answer.expire_time.timestamp() - time.time()


def taken_away(driver: Driver) -> None:
    """Given at once, and revoked or released."""
    life = driver.life("auto")
    driver.asks(life)
    driver.everywhere(life)
    if driver.random.random() < 0.3:
        driver.issues_token(life)
    driver.pause(0.4)
    driver.ends_somehow(life)


def expired(driver: Driver) -> None:
    """Given for a moment."""
    life = driver.life("auto")
    grant = driver.asks(life, lasts=timedelta(seconds=driver.random.uniform(0.2, 2)))
    driver.everywhere(life)
    driver.runs_out(life, grant)


def extended(driver: Driver) -> None:
    """Given for a moment, and then for a moment more."""
    life = driver.life("auto")
    grant = driver.asks(life, lasts=timedelta(seconds=driver.random.uniform(0.5, 2)))
    # Its time may be over before the call comes through.
    with suppress(FailedPrecondition):
        grant = driver.extends(life, timedelta(seconds=driver.random.uniform(0.2, 1)))
    driver.runs_out(life, grant)


def approved_by_one(driver: Driver) -> None:
    """Waits for an owner."""
    life = driver.life("one")
    driver.asks(life)
    driver.everywhere(life)
    driver.approves(life, driver.owners[0], is_last=True)
    driver.everywhere(life)
    driver.pause(0.3)
    driver.ends_somehow(life)


def approved_by_two(driver: Driver) -> None:
    """Waits for two owners: the first gives nothing yet."""
    life = driver.life("two")
    driver.asks(life)
    driver.approves(life, driver.owners[0], is_last=False)
    driver.everywhere(life)
    driver.approves(life, driver.owners[1], is_last=True)
    driver.everywhere(life)
    driver.ends_somehow(life)


def never_given(driver: Driver) -> None:
    """Denied or withdrawn before anybody approves."""
    life = driver.life("one")
    driver.asks(life)
    if driver.random.random() < 0.5:
        driver.ends(life, driver.owners[0], "GRANT_DENIED", lambda to, id_: to.deny(life.grant, request_id=id_))
    else:
        driver.ends(life, driver.requester, "GRANT_WITHDRAWN", lambda to, id_: to.withdraw(life.grant, request_id=id_))


def revoked_together(driver: Driver) -> None:
    """Several that end in one call."""
    lives = [driver.life("auto") for _ in range(driver.random.randint(2, 4))]
    labels = {"batch": lives[0].resource.replace("/", "-")}
    for life in lives:
        driver.asks(life, labels=labels)
    driver.plan_and_revoke(lives, labels)
    for life in lives:
        driver.everywhere(life)
        driver.told.close(life.resource)


def forbidden(driver: Driver) -> None:
    """A deny policy comes and goes over a grant that lasts."""
    life = driver.life("deny")
    name = f"policies/forbid-{life.resource.removeprefix('deny/').replace('/', '-')}"
    policy = forbidding(name, life.resource)
    driver.asks(life)
    driver.turns(life, False, "POLICY_CREATED", name, lambda to, id_: to.create_policy(policy, request_id=id_))
    driver.pause(0.3)
    driver.turns(life, True, "POLICY_DELETED", name, lambda to, id_: to.delete_policy(name, request_id=id_))
    driver.ends_somehow(life)


def signalled(driver: Driver) -> None:
    """A grant that counts only while a signal is on: it is set, runs out, is set again, and is deleted."""
    life = driver.life(f"signal-{driver.number}")
    name = f"signals/s{driver.number}"
    with suppress(NotFound):
        driver.write(ADMIN, None, False, "SIGNAL_DELETED", lambda to, id_: to.delete_signal(name, request_id=id_), name)
    driver.asks(life)
    driver.everywhere(life)
    driver.sets_until_it_runs_out(life, name)
    driver.sets(life, name, utc_now() + HOUR)
    driver.turns(life, False, "SIGNAL_DELETED", name, lambda to, id_: to.delete_signal(name, request_id=id_))
    driver.ends_somehow(life)


STORIES = (
    taken_away,
    taken_away,
    expired,
    extended,
    approved_by_one,
    approved_by_two,
    never_given,
    revoked_together,
    forbidden,
    signalled,
)
