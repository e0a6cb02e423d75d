import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys

import pytest
import structlog

from shared.infrastructure.observability import configure_logging, redact, redact_text
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret

CANARIES = {
    "Meta's token": "EAAGm0PX4ZCpsBAMARKED",
    "API key": "tw_0Z9yMARKEDMARKEDMARKEDMARKEDMARKEDMARKEDMA_MARKEDMARKEDMARKED",
    "bearer": "Bearer MARKED.MARKED",
    "number": "+4915550000001",
    "number in groups": "+49 (1555) 000-0001",
    "number in a URL": "%2B4915550000001",
    "wa_id": "4915550000001",
    "password in a URL": "MARKED-user:MARKED-password",
}
HIDDEN_FIELDS = [
    *("token", "access_token", "Authorization", "X-Hub-Signature-256", "verify_token", "secret"),
    *("password", "to", "recipient", "wa_id", "hub.verify_token", "pin", "body"),
]


@pytest.fixture
def logged():
    """Configures JSON logging into memory and gives what was written, as text."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(level="debug", form="json", stream=stream)
    yield stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def in_text(canary):
    return f"before {canary} after" if "password" not in canary else f"postgresql://{canary}@host/x"


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_a_canary_is_taken_out_of_a_text(canary) -> None:
    redacted = redact_text(in_text(canary))

    assert canary not in redacted
    assert "MARKED" not in redacted
    assert "[removed]" in redacted


@pytest.mark.parametrize(
    "harmless",
    [
        "0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60",
        "2026-11-23T09:00:00.123456Z",
        "took 1234567890.5 ms",
        "claimed 1000 of 2500 entries",
        "0x7fffffffffff",
    ],
)
def test_ids_times_and_counts_stay(harmless) -> None:
    assert redact_text(harmless) == harmless


@pytest.mark.parametrize("name", HIDDEN_FIELDS)
def test_a_secret_field_is_hidden_whatever_the_nesting(name) -> None:
    value = {"request": [{"headers": ({name: "MARKED"},)}]}

    assert "MARKED" not in json.dumps(redact(value))


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_no_log_line_of_structlog_holds_a_canary(logged, canary) -> None:
    text = in_text(canary)
    structlog.contextvars.bind_contextvars(somewhere=text)
    structlog.stdlib.get_logger("x").info(
        text, positional=(text,), nested={"a": [{"b": text}], text: 1}, thing=ValueError(text)
    )

    assert logged()
    assert "MARKED" not in logged()
    assert canary not in logged()


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_no_log_line_of_the_standard_library_holds_a_canary(logged, canary) -> None:
    text = in_text(canary)
    logging.getLogger("a.library").warning("said %s", text)
    logging.getLogger("a.library").warning("said %(what)s", {"what": text})

    assert logged().count("\n") == 2
    assert "MARKED" not in logged()
    assert canary not in logged()


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_no_traceback_holds_a_canary(logged, canary) -> None:
    text = in_text(canary)

    def fail():
        raise RuntimeError(text)

    try:
        fail()
    except RuntimeError:
        logging.getLogger("a.library").exception("failed")
        structlog.stdlib.get_logger("x").exception("failed")

    assert "RuntimeError" in logged()
    assert "MARKED" not in logged()
    assert canary not in logged()


def test_a_secret_shows_nothing_of_itself(logged) -> None:
    structlog.stdlib.get_logger("x").info("made", key_given=Secret("MARKED"))

    assert "MARKED" not in logged()


def test_bytes_and_endless_nesting_are_cut_off(logged) -> None:
    endless = {}
    endless["again"] = endless
    structlog.stdlib.get_logger("x").info("made", raw=b"MARKED", endless=endless)

    assert "MARKED" not in logged()
    assert "[6 bytes]" in logged()


def test_a_line_names_its_logger_level_and_time(logged) -> None:
    logging.getLogger("a.library").warning("hello")

    line = json.loads(logged())
    assert line["event"] == "hello"
    assert line["level"] == "warning"
    assert line["logger"] == "a.library"
    assert line["timestamp"].endswith("Z")


BODY = "Dear Ana, your MARKED order is ready"


def refused_by_a_library():
    int(BODY)


def with_a_cause():
    try:
        refused_by_a_library()
    except ValueError as error:
        raise RuntimeError(BODY) from error


def while_handling():
    try:
        refused_by_a_library()
    except ValueError:
        raise LookupError(BODY)  # noqa: B904  # what is handled is the context


def in_a_group():
    inner = [RuntimeError(BODY), ExceptionGroup(BODY, [ValueError(BODY)])]
    raise ExceptionGroup(BODY, inner)


def with_a_note():
    error = RuntimeError(BODY)
    error.add_note(BODY)
    raise error


def of_the_system():
    raise ConnectionRefusedError(111, BODY, BODY)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    ("fail", "kinds"),
    [
        (refused_by_a_library, ["ValueError"]),
        (with_a_cause, ["ValueError", "direct cause", "RuntimeError"]),
        (while_handling, ["ValueError", "was handled", "LookupError"]),
        (in_a_group, ["Group: 2 exc", "RuntimeError", "Group: 1 exc", "ValueError"]),
        (with_a_note, ["RuntimeError"]),
        (of_the_system, ["ConnectionRefusedError: Connection refused"]),
    ],
)
def test_a_traceback_says_what_and_where_and_quotes_nobody(logged, fail, kinds, form) -> None:
    """No pattern knows a body, so no text of an exception that is not ours is written."""
    again = io.StringIO()
    configure_logging(level="debug", form=form, stream=again)
    try:
        fail()
    except Exception as error:
        logging.getLogger("a.library").exception("failed: %s", error)  # noqa: TRY401  # as they do
        logging.getLogger("a.library").critical("failed: %r", error, exc_info=error)
        structlog.stdlib.get_logger("x").exception("failed", thing=str(error))

    said = again.getvalue() + logged()
    assert "MARKED" not in said
    assert said.count(f"in {fail.__name__}") >= 3
    places = [said.index(kind) for kind in kinds]
    assert places == sorted(places)


def test_an_error_of_ours_says_in_a_traceback_what_it_has_to_say(logged) -> None:
    logging.getLogger("x").error("failed", exc_info=Misconfigured("TELLWIRE_REDIS_URL is not set"))

    assert "misconfigured: TELLWIRE_REDIS_URL is not set" in logged()


def test_an_exception_that_causes_itself_ends(logged) -> None:
    first, second = RuntimeError(BODY), RuntimeError(BODY)
    first.__cause__, second.__cause__ = second, first
    logging.getLogger("x").error("failed", exc_info=first)

    assert logged().count("RuntimeError") == 2


async def test_what_asyncio_says_of_tasks_and_callbacks_quotes_nobody(logged) -> None:
    async def fail():
        raise RuntimeError(BODY)

    def call_back(_given):
        raise RuntimeError(BODY)

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(call_back, BODY.encode())
    await asyncio.sleep(0)

    assert "never retrieved" in logged()
    assert "Exception in callback" in logged()
    assert "in call_back" in logged()
    assert "MARKED" not in logged()


OF_THE_SIMULATOR = """
import logging
from tellwire.cli.processes import simulator
from shared.kernel.errors import Misconfigured
try:
    simulator(None)
except Misconfigured:  # It has no secret to sign webhooks with.
    pass
failed = RuntimeError(" ".join(["MARKED", "text"]))
logging.getLogger("aiohttp.server").error("Error handling request", exc_info=failed)
raise failed
"""


def test_what_fails_in_the_simulator_quotes_nobody() -> None:
    ended = subprocess.run(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", OF_THE_SIMULATOR],
        env={n: v for n, v in os.environ.items() if not n.startswith("TELLWIRE_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.stderr.count("RuntimeError") == 2
    assert "Error handling request" in ended.stderr
    assert "MARKED text" not in ended.stderr


ENDS = """
import gc, sys, threading
from shared.infrastructure.observability import configure_logging, log_what_ends_us
configure_logging(level="debug", form="json")
log_what_ends_us()
def fail(*_): raise RuntimeError(" ".join(["MARKED", "text"]))
class Leaves: __del__ = fail
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Leaves()
fail()
"""


def test_what_nobody_caught_goes_to_the_log_and_quotes_nobody() -> None:
    ended = subprocess.run(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", ENDS], capture_output=True, text=True, check=False, timeout=60
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "a thread ended in an unforeseen way",
        "something could not be cleaned up",
        "ended in an unforeseen way",
    ]
    for line in lines:
        assert "in fail" in line["exception"]
        assert line["exception"].endswith("RuntimeError")
    assert "MARKED text" not in ended.stderr
    assert ended.returncode == 1
