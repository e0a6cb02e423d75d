"""Exceptions in the log: what they are and where they came from, in nobody's words but ours.

The text of an exception that we did not write quotes what did not fit: a driver the parameter, a
parser the input, `int` what is no number. No pattern knows a message's body among them. So of
other exceptions only the type and the lines of code are written.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

from shared.kernel.errors import TellwireError

MOST_EXCEPTIONS: Final = 20
SHORTEST_QUOTED: Final = 3
"""What is shorter is no text of anybody, and would be found in every word."""
_CAUSE: Final = "The exception above was the direct cause of the following one:"
_CONTEXT: Final = "While the exception above was handled, another one occurred:"

logger = logging.getLogger(__name__)


def told(error: BaseException) -> str:
    """The traceback of `error` with what led to it, without texts that are not our own."""
    return "\n".join(
        f"{how}\n\n{_headline_and_lines(each)}" if how else _headline_and_lines(each)
        for each, how in _story(error)
    )


def without_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor: `exc_info` becomes `exception`, and nothing else quotes what was raised."""
    error = _raised(event.pop("exc_info", None))
    if event.get("logger") == "asyncio":
        # Its further lines, and what it has in brackets, are reprs of whatever was at work.
        first = str(event["event"]).partition("\n")[0]
        event["event"] = first.partition("(")[0] if error else first
    if error is None:
        return event
    quoted = [text for each, _ in _story(error) for text in _texts(each)]
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _unquoted(value, quoted)
    return {**event, "exception": told(error)}


def log_what_ends_us() -> None:
    """From now on what nobody caught goes to the log, in this form, and not to standard error."""

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        logger.critical("ended in an unforeseen way", exc_info=error)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        logger.error("a thread ended in an unforeseen way", exc_info=args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        logger.error("something could not be cleaned up", exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable


def _raised(given: Any) -> BaseException | None:
    """What `exc_info` stands for: an exception, a triple, or the one being handled now."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        triple: Sequence[Any] = given
        return triple[1] if isinstance(triple[1], BaseException) else None
    return sys.exc_info()[1] if given else None


def _story(
    error: BaseException, seen: set[int] | None = None
) -> Iterator[tuple[BaseException, str]]:
    """What led to `error`, then it with how that led to it, then what a group holds; none twice."""
    seen = set() if seen is None else seen
    if id(error) in seen or len(seen) >= MOST_EXCEPTIONS:
        return
    seen.add(id(error))
    earlier, how = error.__cause__, _CAUSE
    if earlier is None and not error.__suppress_context__:
        earlier, how = error.__context__, _CONTEXT
    before = [] if earlier is None else list(_story(earlier, seen))
    yield from before
    yield error, how if before else ""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _story(inner, seen)


def _headline_and_lines(error: BaseException) -> str:
    lines = traceback.format_tb(error.__traceback__)
    trace = ["Traceback (most recent call last):\n", *lines] if lines else []
    return "".join(trace) + _headline(error)


def _headline(error: BaseException) -> str:
    kind = type(error)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    name = where + kind.__qualname__
    if isinstance(error, TellwireError):
        return f"{name}: {error.code}: {error.detail}"
    if isinstance(error, BaseExceptionGroup):
        return f"{name}: {len(error.exceptions)} exceptions"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return f"{name}: {os.strerror(error.errno)}"
    return name


def _texts(error: BaseException) -> Iterator[str]:
    if not isinstance(error, TellwireError):
        for spelt in (repr, str):
            # An exception that cannot be shown is shown nowhere.
            with suppress(Exception):
                yield spelt(error)


def _unquoted(text: str, quoted: list[str]) -> str:
    for each in sorted(quoted, key=len, reverse=True):  # One may be a part of another.
        if len(each) >= SHORTEST_QUOTED:
            text = text.replace(each, "[removed]")
    return text
