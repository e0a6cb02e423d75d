"""The route of events as they happen."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from tenancy.domain import Scope
from whatsapp.domain.events import Event, EventType
from whatsapp.entrypoints.http.caller import Credentials, Reader
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.event_stream import Wanted
from whatsapp.entrypoints.http.services import HttpServices, Services

router = APIRouter(prefix="/v1/events", tags=["Events"])
"""Declares routes and holds nothing else."""

_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events in their order, each with its number as `id`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_MAX_NUMBER: Final = 2**63 - 1


class _EventStream(StreamingResponse):
    """Holds its place among the tenant's streams until it has ended, begun or not."""

    media_type = "text/event-stream"
    place: ExitStack

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        with self.place:
            await super().__call__(scope, receive, send)


@router.get("", response_class=_EventStream, responses=problems(410, 422, 429) | _STREAM)
async def follow_events(
    services: Services,
    caller: Reader,
    credentials: Credentials,
    *,
    type: Annotated[list[EventType] | None, Query(description="These alone.")] = None,  # noqa: A002  # its name in the query
    channel_id: Annotated[UUID | None, Query(description="Those of this channel alone.")] = None,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=_MAX_NUMBER,
            description="The number of the last event that you have; 0 for all that are kept, "
            "none for what happens from now on. 410 where some behind it have been deleted, or "
            "where the tenant has no such number yet.",
        ),
    ] = None,
) -> StreamingResponse:
    """What happens to messages, channels and endpoints, as Server-Sent Events without end.

    A client that comes back with `Last-Event-ID` has missed nothing, or is told so by 410.
    """
    streams = services.event_streams
    with ExitStack() as place:
        place.enter_context(streams.place(caller.tenant_id))
        after = await streams.events.start(caller.tenant_id, last_event_id)
        bearer = "" if credentials is None else credentials.credentials
        wanted = Wanted(
            tenant_id=caller.tenant_id,
            after=after,
            wants=partial(_wants, types=frozenset(type or ()), channel_id=channel_id),
            still_allowed=partial(_ensure_may_read, services, bearer),
        )
        answer = _EventStream(streams.follow(wanted), headers=_HEADERS)
        answer.place = place.pop_all()
        return answer


async def _ensure_may_read(services: HttpServices, bearer: str) -> None:
    """As the route's own dependency did when the stream began."""
    caller = await services.authenticate(bearer)
    caller.ensure(Scope.MESSAGES_READ)


def _wants(event: Event, *, types: frozenset[EventType], channel_id: UUID | None) -> bool:
    of_channel = channel_id is None or event.channel_id in {None, channel_id}
    return of_channel and (not types or event.type in types)
