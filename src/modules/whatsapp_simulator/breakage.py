"""Answers that are none: hanging, reset and garbled connections."""

import asyncio
import socket
import struct

from aiohttp import web

from whatsapp_simulator.behaviour import After, Before

_LONGEST_HANG_S = 300.0
_LOOK_S = 0.25
_CLOSE_WITH_RESET = struct.pack("ii", 1, 0)
_HTML = "<!DOCTYPE html><html><head><title>Error</title></head><body>Sorry, something went wrong."
_TRUNCATED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n"
    b'Content-Length: 240\r\n\r\n{"messaging_product":"whatsapp","contacts":[{"inp'
)


async def misbehave(request: web.Request, how: Before | After, *, http: int) -> web.StreamResponse:
    """Do to the connection what is asked; the response returned reaches nobody if it is gone."""
    match how:
        case "hang":
            await _hang(request)
        case "reset":
            _reset(request)
        case "truncated":
            _truncate(request)
        case "html":
            return web.Response(status=http, text=_HTML, content_type="text/html")
        case "garbage":
            return web.Response(body=b'{"messaging_product":', content_type="application/json")
        case "empty":
            return web.Response(body=b"", content_type="application/json")
    return web.Response()


async def _hang(request: web.Request) -> None:
    """Say nothing until the client goes away; close the line after five minutes."""
    ends = asyncio.get_running_loop().time() + _LONGEST_HANG_S
    while request.transport is not None and not request.transport.is_closing():
        if asyncio.get_running_loop().time() > ends:
            request.transport.close()
            return
        await asyncio.sleep(_LOOK_S)


def _reset(request: web.Request) -> None:
    """Close with a TCP RST; a plain close would send FIN, which a client reads as end of data."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_WITH_RESET)
    transport.abort()


def _truncate(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.write(_TRUNCATED)
        request.transport.close()
