"""Routes for those who run the process: is it alive, can it serve, what does it count."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shared.infrastructure.http.errors import NotReady

READY_WITHIN: Final = timedelta(seconds=1)
Check = Callable[[], Awaitable[object]]
"""Asks something for a sign of life; anything it raises means no."""


def operations_router(
    checks: Callable[[], Mapping[str, Check]], registry: CollectorRegistry
) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`; `checks` are asked for each time."""
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive; it says nothing of what it depends on."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """PostgreSQL and Redis answer within a second."""
        named = checks()
        answers = await asyncio.gather(*(_answers(check) for check in named.values()))
        missing = [name for name, answered in zip(named, answers, strict=True) if not answered]
        if missing:
            raise NotReady(f"No answer from {', '.join(missing)}")
        return {"status": "ok"}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics in Prometheus's text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _answers(check: Check) -> bool:
    try:
        async with asyncio.timeout(READY_WITHIN.total_seconds()):
            await check()
    except Exception:  # noqa: BLE001  # whatever is wrong with it, it did not answer
        return False
    return True
