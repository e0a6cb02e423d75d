"""Take in a webhook: proved to be Meta's, written down durably, and only then acknowledged."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

from shared.kernel.errors import InvalidInput, Unauthenticated
from shared.kernel.secret import Secret
from whatsapp.domain.entities.meta_app import APP_ID, MetaApp

REMEMBERED_FOR: Final = timedelta(seconds=10)
"""How long an app's secrets are used without asking again: a rotation takes that long to act."""
MAX_REMEMBERED: Final = 256
_CHALLENGE: Final = re.compile(r"[0-9]{1,64}")
_NOBODY: Final = Secret("an app that does not exist has a secret that nobody knows")


class InvalidChallenge(InvalidInput):
    """The challenge of a handshake is not a short string of digits."""

    code = "invalid_challenge"
    status = 400
    title = "The challenge is made of digits"


class MetaAppRepository(Protocol):
    """The Meta apps that post webhooks here."""

    async def find_app(self, app_id: str) -> MetaApp | None:
        """The app that Meta knows by this id."""
        ...


class InboxAppend(Protocol):
    """Where verified bodies are written down."""

    async def append(self, app_id: str, body: bytes) -> None:
        """Durable when it returns, once for each body; raises Unavailable otherwise."""
        ...


CheckSignature: TypeAlias = Callable[[bytes, bytes | None, Sequence[Secret]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownApps:
    """The apps, remembered for some seconds; ids that do not exist are not remembered.

    Whoever asks for one while it is being looked up waits for that answer. For how long is measured
    by a clock that nobody sets, so that no secret counts longer where one is set back.
    """

    apps: MetaAppRepository
    monotonic: Callable[[], float] = time.monotonic
    remembered_for: timedelta = REMEMBERED_FOR
    _remembered: OrderedDict[str, tuple[float, MetaApp]] = field(
        default_factory=OrderedDict[str, tuple[float, MetaApp]], repr=False
    )
    _asked: dict[str, asyncio.Task[MetaApp | None]] = field(
        default_factory=dict[str, "asyncio.Task[MetaApp | None]"], repr=False
    )

    async def __call__(self, app_id: str) -> MetaApp | None:
        """The app, or None; what cannot be an id costs no query."""
        if APP_ID.fullmatch(app_id) is None:
            return None
        at = self.monotonic()
        until, app = self._remembered.get(app_id, (at, None))
        if app is not None and at < until:
            return app
        asking = self._asked.get(app_id)
        if asking is None:
            asking = self._asked[app_id] = asyncio.create_task(self._ask(app_id))
        return await asyncio.shield(asking)  # Whoever gives up waiting takes it from nobody else.

    async def _ask(self, app_id: str) -> MetaApp | None:
        at = self.monotonic()
        try:
            app = await self.apps.find_app(app_id)
        finally:
            del self._asked[app_id]
        if app is None:
            self._remembered.pop(app_id, None)
            return None
        self._remembered[app_id] = (at + self.remembered_for.total_seconds(), app)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return app


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHandshake:
    """Answers Meta's question whether this address wants its webhooks."""

    known_apps: KnownApps

    async def __call__(self, app_id: str, *, mode: str, token: str, challenge: str) -> str:
        """The challenge, to be sent back as it is; Unauthenticated, InvalidChallenge."""
        app = await self.known_apps(app_id)
        expected = _NOBODY if app is None else app.verify_token
        matches = Secret(token) == expected
        if app is None or not matches or mode != "subscribe":
            raise Unauthenticated
        if _CHALLENGE.fullmatch(challenge) is None:
            raise InvalidChallenge(field="hub.challenge")
        return challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveWebhook:
    """Stores a body that one of the app's secrets signed: raw, once, before it returns."""

    known_apps: KnownApps
    inbox: InboxAppend
    signature_matches: CheckSignature

    async def __call__(self, app_id: str, body: bytes, signatures: Sequence[bytes]) -> None:
        """`signatures` are all headers of that name, of which there must be exactly one.

        Raises Unauthenticated, which says nothing of why, and Unavailable.
        """
        app = await self.known_apps(app_id)
        secrets = (_NOBODY,) if app is None else app.secrets
        signature = signatures[0] if len(signatures) == 1 else None
        if not self.signature_matches(body, signature, secrets) or app is None:
            raise Unauthenticated
        await self.inbox.append(app.app_id, body)
