"""Jobs that run only while they are let: by who they are, by the token of a grant, or by who started them.

A job has no headers. One that a request started, and that runs after its answer, is told who asked for it: by an
argument that only the handler fills, from what the guard let through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI

from jitaccess.guards import Guard, Incoming, Passage
from jitaccess.guards.fastapi import protect, require
from jitaccess.guards.jobs import guarded


def create_purge(guard: Guard) -> Callable[[str], str]:
    """Returns the job behind the guard."""

    @guarded(guard, "database/orders/{region}", "rows.purge")
    def purge(region: str) -> str:
        return f"purged {region}"

    return purge


def started_by(incoming: Incoming) -> str:
    """Returns who started the job: `subject=lambda i: i.source.arguments["by"]` with a name that the log shows."""
    by: str = incoming.source.arguments["by"]
    return by


def create_app(of_requests: Guard, of_jobs: Guard, done: Callable[[str], None]) -> FastAPI:
    """Returns an API whose requests start a job; `of_jobs` has the subject `started_by`.

    The job is judged when it runs: whose grant was revoked meanwhile purges nothing.
    """
    app = FastAPI()
    protect(app, of_requests)

    @guarded(of_jobs, "database/orders/{region}", "rows.purge")
    def purge(region: str, *, by: str) -> None:
        done(f"{by} purged {region}")

    @app.post("/orders/{region}/purges", status_code=202)
    def start(
        region: str,
        tasks: BackgroundTasks,
        passage: Annotated[Passage, Depends(require("database/orders/{region}", "rows.purge"))],
    ) -> dict[str, str]:
        tasks.add_task(purge, region, by=passage.subject)
        return {"started": region}

    return app
