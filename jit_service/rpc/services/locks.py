"""The servicer of LockService: decode, call, encode."""

from __future__ import annotations

from datetime import datetime

import grpc

from jit_service.domain.grants.lock import Lock, NewLock, Target
from jit_service.domain.language import name
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.mapping import Decoder, Encoder
from jit_service.storage import Store
from jit_service.use_cases import locks
from jitaccess.v1 import lock_pb2
from jitaccess.v1.lock_pb2_grpc import LockServiceServicer

_TARGET = {"principal": "target.principal", "group": "target.group", "jti": "target.token_id"}
_ENCODE = Encoder(lock_pb2.Lock, Lock, {**_TARGET, "ended_grant_count": "ended_grants"}, derived=("active",))
_DECODE = Decoder(lock_pb2.Lock, NewLock, given=("target",))


class LockServicer(LockServiceServicer):
    """Locks on principals, groups and tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def CreateLock(self, request: lock_pb2.CreateLockRequest, context: grpc.ServicerContext) -> lock_pb2.Lock:
        return lock_message(*locks.create(self._store, current_caller(), _wanted(request.lock)))

    def GetLock(self, request: lock_pb2.GetLockRequest, context: grpc.ServicerContext) -> lock_pb2.Lock:
        return lock_message(*locks.get(self._store, name.lock_name(request.name, "name")))

    def ListLocks(
        self, request: lock_pb2.ListLocksRequest, context: grpc.ServicerContext
    ) -> lock_pb2.ListLocksResponse:
        page = locks.list_page(
            self._store,
            current_caller(),
            page_size=request.page_size,
            page_token=request.page_token,
            over=request.show_deleted,
        )
        return lock_pb2.ListLocksResponse(
            locks=[lock_message(found, page.at) for found in page.locks], next_page_token=page.next_page_token
        )

    def DeleteLock(self, request: lock_pb2.DeleteLockRequest, context: grpc.ServicerContext) -> lock_pb2.Lock:
        found = name.lock_name(request.name, "name")
        return lock_message(*locks.delete(self._store, current_caller(), found, etag=request.etag))


def lock_message(lock: Lock, at: datetime) -> lock_pb2.Lock:
    """Returns the lock, active or not at `at`."""
    return _ENCODE(lock, active=lock.stands(at))


def _wanted(message: lock_pb2.Lock) -> NewLock:
    target = Target(principal=message.principal, group=message.group, token_id=message.jti)
    return _DECODE(message, "lock.", target=target)
