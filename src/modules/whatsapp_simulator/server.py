"""The simulator as an aiohttp application, and the coroutine that serves it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from whatsapp_simulator import control, graph
from whatsapp_simulator.clock import SimulatorClock
from whatsapp_simulator.config import SimulatorConfig
from whatsapp_simulator.messages import post_messages
from whatsapp_simulator.simulator import SIMULATOR, Simulator
from whatsapp_simulator.webhooks import USER_AGENT

_MAX_JSON_BYTES = 1024 * 1024
_SHUTDOWN_S = 0.5
_BACKLOG = 4096
_QUIET_S = 1.0
_WORTH_SEARCHING = 10_000  # So many new objects hold garbage that is worth a search.
_MOST_NEW = 1_000_000  # So many are searched even if it is never quiet.


def create_app(config: SimulatorConfig, *, clock: SimulatorClock | None = None) -> web.Application:
    """An application that simulates Meta's platform for as long as it runs."""
    app = web.Application(client_max_size=_MAX_JSON_BYTES)
    app[SIMULATOR] = Simulator(config, clock or SimulatorClock())
    # The router tries resources in order: the endpoint that carries the load comes first.
    app.router.add_post(r"/{version:v\d+\.\d+}/{phone_number_id}/messages", post_messages)
    control.add_routes(app)
    graph.add_routes(app)
    app.cleanup_ctx.append(_background)
    return app


async def _background(app: web.Application) -> AsyncIterator[None]:
    """Run the ticker and the webhook workers while the application runs."""
    sim = app[SIMULATOR]
    settings = sim.config.webhooks
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.concurrency),
        timeout=aiohttp.ClientTimeout(total=settings.timeout.total_seconds()),
        headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
    ) as http:
        jobs = [sim.sender.work(http) for _ in range(settings.concurrency)]
        tasks = [asyncio.create_task(job) for job in (*jobs, _tick(sim), _search(sim))]
        for task in tasks:
            task.add_done_callback(_complain_if_dead)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    sim.log.close()


def _complain_if_dead(task: asyncio.Task[None]) -> None:
    """A dead ticker or worker must be seen at once, not when the loop is closed."""
    if not task.cancelled() and task.exception() is not None:
        context = {"message": "a task of the simulator died", "exception": task.exception()}
        task.get_loop().call_exception_handler(context)


async def _tick(sim: Simulator) -> None:
    pause_s = sim.config.webhooks.linger.total_seconds()
    while True:
        await asyncio.sleep(pause_s)
        sim.tick()


async def _search(sim: Simulator) -> None:
    """Look for garbage while no message comes: a search stops all, and a rate limit would see it.

    There is little to find, as nearly everything is freed by counting references.
    """
    while True:
        last = sim.log.last
        await asyncio.sleep(_QUIET_S)
        if sim.log.last == last and gc.get_count()[0] >= _WORTH_SEARCHING:
            gc.collect(0)


async def serve(
    config: SimulatorConfig,
    *,
    ready: asyncio.Event | Callable[[str], object],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set; `ready` is set, or called with the base URL, once it listens."""
    app = create_app(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    thresholds = gc.get_threshold()
    try:
        await web.TCPSite(runner, config.host, config.port, backlog=_BACKLOG).start()
        # What exists now lives as long as the process: collecting it again would only cost pauses,
        # and a pause of 8 ms is one that an exact rate limit sees.
        gc.freeze()
        gc.set_threshold(_MOST_NEW, *thresholds[1:])
        host, port = runner.addresses[0][:2]
        if isinstance(ready, asyncio.Event):
            ready.set()
        else:
            ready(f"http://{host}:{port}")
        await stop.wait()
    finally:
        gc.set_threshold(*thresholds)
        await runner.cleanup()
