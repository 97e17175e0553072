"""An HTTP API in FastAPI: rows of a region are for whoever holds a live grant for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI

from jitaccess.guards import Guard, Passage
from jitaccess.guards.fastapi import protect, require


def create_app(guard: Guard) -> FastAPI:
    """Returns the API behind the guard."""
    app = FastAPI()
    protect(app, guard)

    @app.get("/orders/{region}/rows", dependencies=[Depends(require("database/orders/{region}", "rows.read"))])
    async def read(region: str) -> dict[str, str]:
        return {"region": region}

    @app.post("/orders/{region}/rows")
    def create(
        region: str, passage: Annotated[Passage, Depends(require("database/orders/{region}", "rows.create"))]
    ) -> dict[str, str]:
        return {"region": region, "by": passage.subject, "grant": passage.grant}

    return app
