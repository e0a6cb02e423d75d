"""Send a message from the terminal, through the HTTP API as any program would."""

import json
from typing import Annotated, Any
from uuid import UUID

import aiohttp
import typer
from yarl import URL

from shared.infrastructure.settings import load_settings
from shared.kernel.errors import Unavailable
from tellwire.terminal import complain_of, console, run
from whatsapp.domain.value_objects import IdempotencyKey

TIMEOUT = aiohttp.ClientTimeout(total=15)


class ApiUnreachable(Unavailable):
    """Tellwire's own API does not answer."""

    code = "api_unreachable"
    title = "Tellwire's API does not answer: start it with tellwire serve, or set TELLWIRE_API_PORT"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(send)


def send(
    to: Annotated[str, typer.Argument(help="The recipient's number, with + and country code.")],
    body: Annotated[str, typer.Argument(help="What to say.")],
    channel_id: Annotated[UUID, typer.Option("--channel", help="The channel to send from.")],
    api_key: Annotated[
        str,
        typer.Option(
            envvar="TELLWIRE_API_KEY",
            prompt="API key",
            hide_input=True,
            help="An API key of the tenant; better in the variable than on the command line.",
        ),
    ],
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key never sends twice.")
    ] = None,
) -> None:
    """Send a text message; prints its id and status."""
    settings = load_settings()
    headers = {"Authorization": f"Bearer {api_key.strip()}"}
    if idempotency_key:
        headers["Idempotency-Key"] = IdempotencyKey(idempotency_key).value
    message = {"channel_id": str(channel_id), "to": to, "type": "text", "text": {"body": body}}
    url = URL.build(
        scheme="http", host=settings.api_host, port=settings.api_port, path="/v1/messages"
    )
    status, answer = run(_post(url, message, headers))
    if status not in {200, 202}:
        complain_of(answer["code"], answer["detail"], field=answer.get("field"))
        raise typer.Exit(1)
    console.print(f"{answer['id']} {answer['status']}", highlight=False)


async def _post(
    url: URL, message: dict[str, Any], headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as http,
            http.post(url, json=message, headers=headers) as answer,
        ):
            status, said = answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        raise ApiUnreachable from None
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"id", "code"} & document.keys():
        raise ApiUnreachable("What answers there is not Tellwire's API: set TELLWIRE_API_PORT")
    return status, document
