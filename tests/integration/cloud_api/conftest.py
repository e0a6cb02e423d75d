import asyncio

import uvloop


def pytest_asyncio_loop_factories():
    """Both loops: they tell of broken connections in different ways; production has uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
