"""What the supervisor decides without starting anything."""

import asyncio
import socket
from datetime import timedelta

import pytest

from tellwire.supervisor import Child, Listener, Patience, PortTaken, Supervisor, _lines


def test_the_pause_before_a_restart_doubles_up_to_a_longest_one():
    patience = Patience(first_pause=timedelta(seconds=1), longest_pause=timedelta(seconds=5))
    assert [patience.pause(ends).total_seconds() for ends in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_taken_port_is_refused_by_name_with_what_to_do(taken):
    listener = Listener("127.0.0.1", taken, setting="TELLWIRE_API_PORT")
    with pytest.raises(PortTaken, match=rf"Port {taken} .* set TELLWIRE_API_PORT"):
        listener.refuse_if_taken()


def test_a_port_whose_last_server_has_just_ended_can_be_had():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listening.accept()[0].close()  # Who closes first is left in TIME_WAIT.
            client.recv(1)
    Listener("127.0.0.1", port).refuse_if_taken()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_the_same_typed_error(host):
    with pytest.raises(PortTaken, match="cannot be used"):
        Listener(host, 1).refuse_if_taken()


async def test_nothing_is_started_while_any_port_is_taken(taken, tmp_path):
    trace = tmp_path / "started"
    children = [
        Child("first", ["touch", str(trace)]),
        Child("second", ["true"], listener=Listener("127.0.0.1", taken)),
    ]
    with pytest.raises(PortTaken):
        await Supervisor(children, grace=timedelta(seconds=5)).run()
    assert not trace.exists()


@pytest.mark.parametrize(
    ("fed", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\nthree", ["one", "", "three"]),
        (b"\xff\n", ["�"]),
        (b"x" * 70_000 + b"\n", ["x" * 65_536, "x" * 4_464]),
    ],
)
async def test_a_stream_is_cut_into_lines_whatever_it_holds(fed, lines):
    stream = asyncio.StreamReader(limit=1 << 20)
    stream.feed_data(fed)
    stream.feed_eof()
    assert [line async for line in _lines(stream)] == lines
