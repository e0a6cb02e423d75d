"""Routes for those who run the process: is it alive, can it serve, what does it count."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shared.infrastructure.http.errors import NotReady
from shared.kernel.errors import Unauthenticated
from shared.kernel.secret import Secret
from whatsapp.entrypoints.http.documentation import Responses, problems

READY_WITHIN: Final = timedelta(milliseconds=800)
Check = Callable[[], Coroutine[Any, Any, str]]
"""Asks something for a sign of life and gives what is wrong with it, or an empty text.

Anything it raises means that there is no answer.
"""
_NO_ANSWER: Final = "no answer"
logger = logging.getLogger(__name__)


class Readiness:
    """Whether everything can be used that the process depends on, told within a second.

    A check that hangs is left to hang, and is asked no second time meanwhile: giving up a query
    takes a driver longer than the second, and frequent questions must not eat up the connections.
    """

    def __init__(self) -> None:
        self._checks: Mapping[str, Check] = {}
        self._group: asyncio.TaskGroup | None = None
        self._asked: dict[str, asyncio.Task[str]] = {}
        self._told = ""

    @asynccontextmanager
    async def watching(self, checks: Mapping[str, Check]) -> AsyncGenerator[None]:
        """Use `checks` inside the block; before and after it, nothing is ready."""
        async with asyncio.TaskGroup() as group:
            self._checks, self._group = checks, group
            yield
            self._checks, self._group = {}, None
            for asked in self._asked.values():
                asked.cancel()

    async def ensure(self) -> None:
        """Raise NotReady, which names what does not answer or cannot be used.

        It is logged where it is another than when somebody asked before.
        """
        if self._group is None:
            raise NotReady("Not started")
        names, group = tuple(self._checks), self._group
        wrong = await asyncio.gather(*(self._wrong_with(name, group) for name in names))
        pairs = zip(names, wrong, strict=True)
        told = "; ".join(f"{name}: {what}" for name, what in pairs if what)
        if told and told != self._told:
            logger.warning("not ready: %s", told)
        elif self._told and not told:
            logger.info("ready again")
        self._told = told
        if told:
            raise NotReady(told)

    async def _wrong_with(self, name: str, group: asyncio.TaskGroup) -> str:
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = group.create_task(_ask(self._checks[name]))
        await asyncio.wait({asked}, timeout=READY_WITHIN.total_seconds())
        return asked.result() if asked.done() and not asked.cancelled() else _NO_ANSWER


async def _ask(check: Check) -> str:
    try:
        return await check()
    except Exception:  # noqa: BLE001  # whatever is wrong with it, it did not answer
        return _NO_ANSWER


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="MetricsToken",
    description="The installation's TELLWIRE_METRICS_TOKEN, where one is set.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

_METRICS: Final[Responses] = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def operations_router(
    readiness: Readiness, registry: CollectorRegistry, *, metrics_token: Secret | None = None
) -> APIRouter:
    """`/healthz`, `/readyz`, and `/metrics` for whoever brings the token, if there is one."""
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz")
    @router.head("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive; this says nothing of what it depends on."""
        return {"status": "ok"}

    @router.get("/readyz", responses=problems(503))
    @router.head("/readyz", responses=problems(503))
    async def readyz() -> dict[str, str]:
        """PostgreSQL answers and takes writes, Redis answers; known within a second, else 503."""
        await readiness.ensure()
        return {"status": "ok"}

    @router.get("/metrics", response_class=Response, responses=_METRICS | problems(401))
    async def metrics(credentials: Credentials) -> Response:
        """Metrics in Prometheus's text format; 401 without the installation's token."""
        if metrics_token is not None and (
            credentials is None or Secret(credentials.credentials) != metrics_token
        ):
            raise Unauthenticated
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
