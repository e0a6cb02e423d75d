"""The API behind its server, until a signal ends it."""

import resource
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from shared.infrastructure.settings import Settings
from tellwire.api import close_streams, create_api
from tellwire.bounded_head import BoundedHead


class _ApiServer(uvicorn.Server):
    """A server that lets streams end when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's, after `on_exit`."""
        self._on_exit()
        super().handle_exit(sig, frame)


def serve_api(settings: Settings) -> bool:
    """Serve until stopped; False where it did not even start."""
    _allow_many_connections()
    app = create_api(settings)
    config = uvicorn.Config(
        app,
        http=BoundedHead,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds),
    )
    server = _ApiServer(config, on_exit=lambda: close_streams(app))
    with suppress(KeyboardInterrupt):
        server.run()
    return server.started


def _allow_many_connections() -> None:
    """Use what the system allows: the default of many is enough for a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
