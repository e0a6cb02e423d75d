import io
import json
import logging

import pytest
import structlog

from shared.infrastructure.observability import configure_logging, redact, redact_text
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
