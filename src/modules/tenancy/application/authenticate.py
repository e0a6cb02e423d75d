"""Who is calling? From the text of an API key to a tenant and what it may do there."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import Forbidden, Unauthenticated
from tenancy.application.ports import BeginTenancyWork
from tenancy.domain import Scope, read_key

REMEMBERED_FOR: Final = timedelta(seconds=2)
"""How long a key is believed without asking again, and so how long a revoked one may still work."""
MAX_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved to speak for a tenant, and what their key may do."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[Scope]

    def ensure(self, scope: Scope) -> None:
        """Raise Forbidden unless the key has `scope`."""
        if scope not in self.scopes:
            raise Forbidden(f"This key does not have the scope {scope}")


@dataclass(slots=True)
class _Remembered:
    """Callers that were recognised moments ago, by the digest of their key's text.

    Only successes are kept, and at most MAX_REMEMBERED of them: guessing fills nothing. For how
    long is measured by a clock that nobody sets, so that none is kept longer where one is set back.
    """

    entries: OrderedDict[bytes, tuple[float, datetime | None, Caller]] = field(
        default_factory=OrderedDict
    )

    def find(self, digest: bytes, moment: float, at: datetime) -> Caller | None:
        found = self.entries.get(digest)
        if found is None:
            return None
        until, expires_at, caller = found
        if until <= moment or (expires_at is not None and expires_at <= at):
            del self.entries[digest]
            return None
        return caller

    def keep(
        self, digest: bytes, until: float, expires_at: datetime | None, caller: Caller
    ) -> None:
        self.entries[digest] = (until, expires_at, caller)
        self.entries.move_to_end(digest)
        while len(self.entries) > MAX_REMEMBERED:
            self.entries.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """Recognises API keys: `await authenticate(text)` gives a Caller or raises Unauthenticated.

    The error never says why. A recognised key is remembered for `remembered_for`, at most until it
    expires, so that a revocation takes that long to reach every process.
    """

    begin: BeginTenancyWork
    now: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    remembered_for: timedelta = REMEMBERED_FOR
    _remembered: _Remembered = field(default_factory=_Remembered, repr=False)

    async def __call__(self, bearer: str) -> Caller:
        """The caller that `bearer`, the text of an API key, belongs to."""
        presented, at, moment = read_key(bearer), self.now(), self.monotonic()
        if presented is None:
            raise Unauthenticated
        digest = hashlib.sha256(bearer.encode()).digest()
        known = self._remembered.find(digest, moment, at)
        if known is not None:
            return known
        async with self.begin(presented.tenant_id) as work:
            key = await work.api_keys.get_by_id(presented.key_id)
        if key is None or not key.admits(presented.digest, at):
            raise Unauthenticated
        caller = Caller(key.tenant_id, key.id, key.scopes)
        until = moment + self.remembered_for.total_seconds()
        self._remembered.keep(digest, until, key.expires_at, caller)
        return caller
