import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_simulator.number import Doubles
from whatsapp_simulator.request_log import RequestLog


def _read(log, **query):
    return orjson.loads(log.query(**{"limit": 10**9, **query}))


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_pages_cover_every_entry_once(count):
    log = RequestLog(10_000)
    for n in range(count):
        log.record({"n": n})

    seen, since = [], 0
    while True:
        page = _read(log, since=since, limit=700)
        seen += [entry["n"] for entry in page["entries"]]
        if page["next"] == since:
            break
        since = page["next"]

    assert seen == list(range(count))
    assert since == count == log.last


@given(st.integers(0, 4000), st.integers(0, 5000), st.integers(1, 3000))
def test_a_page_holds_what_follows_since(count, since, limit):
    log = RequestLog(100_000)
    for _ in range(count):
        log.record({})

    page = _read(log, since=since, limit=limit)

    expected = list(range(since + 1, min(count, since + limit) + 1))
    assert [entry["seq"] for entry in page["entries"]] == expected


def test_the_memory_is_bounded_and_the_oldest_go():
    log = RequestLog(4096)
    for n in range(20_000):
        log.record({"n": n})

    page = _read(log)

    assert 4096 <= len(page["entries"]) <= 4096 + 1024
    assert page["entries"][-1]["seq"] == 20_000
    assert page["entries"][0]["seq"] == page["first"]
    assert _read(log, since=5)["entries"][0]["seq"] == page["first"]


def test_lines_can_be_filtered_without_losing_the_place():
    log = RequestLog(10_000)
    for n in range(3000):
        log.record({"phone_number_id": str(n % 3)})

    page = _read(log, having=b'"phone_number_id":"1"', limit=10)

    assert [e["seq"] for e in page["entries"]] == [2 + 3 * i for i in range(10)]
    assert page["next"] == 29


def test_the_file_holds_every_entry_also_those_forgotten(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    log = RequestLog(1024, path)
    for n in range(5000):
        log.record({"n": n})
    log.clear()
    log.record({"n": 5000})
    log.flush()

    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    log.close()

    assert [line["n"] for line in lines] == list(range(5001))
    assert [entry["n"] for entry in _read(log)["entries"]] == [5000]
    assert _read(log)["entries"][0]["seq"] == 5001


def test_doubles_are_counted_and_named():
    doubles = Doubles()
    for value in ("a.1", "b.1", "a.1", "c.1", "a.1"):
        doubles.add(value)

    assert (doubles.distinct, doubles.doubled, doubles.examples) == (3, 2, ["a.1", "a.1"])
