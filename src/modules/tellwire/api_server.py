"""The API behind its server, until a signal ends it."""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from shared.infrastructure.settings import Settings
from tellwire.api import close_streams, create_api
from tellwire.bounded_head import BoundedHead
from tellwire.garbage import garbage_search, settle_down
from tellwire.open_files import allow_many_connections
from tellwire.stop_signals import stop_signals


class _ApiServer(uvicorn.Server):
    """A server that lets streams end when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; what is here then stays."""
        await super().startup(sockets)
        settle_down()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Not as uvicorn's, which raises them again and ends us before everything is closed."""
        loop, handled = asyncio.get_running_loop(), stop_signals()
        for number in handled:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        self._on_exit()
        self.handle_exit(number, None)


async def serve_api(settings: Settings) -> None:
    """Serve until stopped; raises what keeps it from starting."""
    allow_many_connections()
    app = create_api(settings)
    config = uvicorn.Config(
        app,
        http=BoundedHead,
        host=settings.api_host,
        port=settings.api_port,
        # Entered here: the server would answer a refusal of ours with a traceback.
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # The app reads them, behind the short way of webhooks.
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds),
    )
    stopping = asyncio.Event()
    async with app.router.lifespan_context(app), asyncio.TaskGroup() as tasks:
        tasks.create_task(garbage_search().run(stopping))
        try:
            await _ApiServer(config, on_exit=lambda: close_streams(app)).serve()
        finally:
            stopping.set()
