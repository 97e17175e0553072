"""Guards: a handler, a method or a job runs only while its caller holds a live grant.

    from jitaccess.guards import Guard, subject_of_grant_token
    from jitaccess.guards.fastapi import protect, require

    guard = Guard.by_check(AsyncJitClient(), subject=who)
    protect(app, guard)

    @app.post("/orders/{region}/rows", dependencies=[Depends(require("database/orders/{region}", "rows.create"))])

`jitaccess.guards.asgi` has middleware, `jitaccess.guards.grpc` interceptors, `jitaccess.guards.jobs` a decorator.

All fail closed. A caller without an identity is Unauthenticated, one whom nothing lets through PermissionDenied;
whatever else keeps the guard from being sure (the service away or late, its refusal of the guard itself) is
Unavailable; a misconfiguration, or a bug in what the program gave it, is Internal. The cause is in the log and not in
the answer.
"""

from jitaccess.guards.guard import Guard, Passage
from jitaccess.guards.incoming import (
    Incoming,
    bearer_token,
    fixed_subject,
    subject_of_grant_token,
    subject_of_identity_token,
)
from jitaccess.guards.need import Need

__all__ = [
    "Guard",
    "Incoming",
    "Need",
    "Passage",
    "bearer_token",
    "fixed_subject",
    "subject_of_grant_token",
    "subject_of_identity_token",
]
