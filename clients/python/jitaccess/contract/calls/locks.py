"""Calls of LockService."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill, full_name, instant_message, new_request_id, until
from jitaccess.contract.model import Lock, Page
from jitaccess.v1 import lock_pb2


def create_lock(
    principal: str = "",
    *,
    group: str = "",
    jti: str = "",
    comment: str,
    expire_time: datetime | None = None,
    ttl: timedelta | None = None,
    end_grants: bool = False,
    request_id: str | None = None,
) -> Call[Lock]:
    """Locks exactly one of a principal, a group and an identity token, until `expire_time`, for `ttl`, or until lifted.

    With `end_grants` what the locked have ends for good. Role responder or admin.
    """
    targets = {"principal": principal, "group": group, "jti": jti}
    given = {field: text for field, text in targets.items() if text}
    if len(given) != 1:
        raise invalid_field("principal", "give exactly one of principal, group and jti")
    if expire_time is not None and ttl is not None:
        raise invalid_field("expire_time", "give either expire_time or ttl")
    over_at = instant_message(until(expire_time, ttl), "expire_time")
    lock = fill(lock_pb2.Lock, **given, comment=comment, expire_time=over_at, end_grants=end_grants)
    return _lock_call("CreateLock", fill(lock_pb2.CreateLockRequest, lock=lock, request_id=new_request_id(request_id)))


def get_lock(name: str) -> Call[Lock]:
    """Returns a lock."""
    return _lock_call("GetLock", fill(lock_pb2.GetLockRequest, name=full_name("locks", name)))


def list_locks(*, show_deleted: bool = False, page_size: int = 0) -> Call[Page[Lock]]:
    """Lists the locks that stand, newest first; with `show_deleted` also those that were lifted or are over."""
    return listing(
        "LockService/ListLocks",
        fill(lock_pb2.ListLocksRequest, page_size=page_size, show_deleted=show_deleted),
        lock_pb2.ListLocksResponse,
        Lock,
        "locks",
    )


def delete_lock(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Lock]:
    """Lifts a lock at once. What it ended stays ended."""
    message = fill(
        lock_pb2.DeleteLockRequest, name=full_name("locks", name), etag=etag, request_id=new_request_id(request_id)
    )
    return _lock_call("DeleteLock", message)


def _lock_call(rpc: str, message: Message) -> Call[Lock]:
    return one(f"LockService/{rpc}", message, lock_pb2.Lock, Lock)
