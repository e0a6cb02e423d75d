"""The HTTP servers that are measured, each a process: `benchmarks.intake_servers <name> ...`."""

import os
import sys
from typing import Any

import uvicorn

PATH, SECRET, VERIFY = "/webhooks/whatsapp/1", "benchmark-app-secret", "benchmark-verify"


def bare() -> Any:
    """An ASGI app that reads the body and answers 200."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def pywa() -> Any:
    """Pywa's own handler on FastAPI, which checks the signature, parses, and stores nothing."""
    from fastapi import FastAPI  # noqa: PLC0415  # only this server needs it
    from pywa_async import WhatsApp  # noqa: PLC0415

    app = FastAPI()
    WhatsApp(
        phone_id="1001",
        token="EAAG-benchmark",  # noqa: S106  # nobody's
        server=app,
        webhook_endpoint=PATH,
        verify_token=VERIFY,
        app_secret=SECRET,
        webhook_challenge_delay=0,
    )
    return app


def serve_tellwire(port: int) -> None:
    """Our API as `tellwire api` runs it."""
    from shared.infrastructure.observability import configure_logging  # noqa: PLC0415
    from shared.infrastructure.settings import load_settings  # noqa: PLC0415
    from tellwire.api_server import serve_api  # noqa: PLC0415
    from tellwire.terminal import run  # noqa: PLC0415

    settings = load_settings(api_host="127.0.0.1", api_port=port)
    configure_logging(level=settings.log_level, form=settings.log_format)
    run(serve_api(settings))


def main() -> None:
    """Serve one of them on the socket whose path is given, on one core."""
    name, port, core = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    if name == "tellwire":
        serve_tellwire(int(port))
        return
    uvicorn.run(
        {"bare": bare, "pywa": pywa}[name](),
        host="127.0.0.1",
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
