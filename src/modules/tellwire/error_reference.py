"""The reference of errors: every code that the API and the commands can answer with.

`python -m tellwire.error_reference > docs/errors.md` writes it anew; tests/architecture compares.
"""

import html
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Final

from shared.kernel.errors import TellwireError

ROOTS: Final = ("shared", "tenancy", "whatsapp", "tellwire")
_HEAD: Final = """# Errors

Every refusal has a stable code. Over HTTP it comes as a problem document (RFC 9457,
`application/problem+json`) whose `type` leads here; `field` says which part of the request is meant
and `instance` is the request's id, which is also in the header `X-Request-ID` and in the log.
Where *again* says yes, the same call may succeed later, and `Retry-After` says when.

Codes of a message that failed at Meta are Meta's own and stand in the message's `failure`.

| code | status | again | meaning |
| --- | --- | --- | --- |
"""


def import_everything() -> None:
    """Import every module, so that every error class is there."""
    for root in ROOTS:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def error_classes() -> list[type[TellwireError]]:
    """Every error class that is imported, by code: all that this process can answer with."""
    return sorted({TellwireError, *_below(TellwireError)}, key=lambda error: error.code)


def _below(error: type[TellwireError]) -> Iterator[type[TellwireError]]:
    for below in error.__subclasses__():
        if below.__module__.partition(".")[0] in ROOTS:
            yield below
        yield from _below(below)


def markdown() -> str:
    """The reference as `docs/errors.md` has it."""
    rows = (
        f'| <a id="{error.code}"></a>`{error.code}` | {error.status} | '
        f"{'yes' if error.retryable else 'no'} | {html.escape(error.title, quote=False)} |\n"
        for error in error_classes()
    )
    return _HEAD + "".join(rows)


def page() -> str:
    """The reference as a page of the API, at the address that problem documents name."""
    rows = "".join(
        f"<tr id={error.code}><td><code>{error.code}</code><td>{error.status}"
        f"<td>{'yes' if error.retryable else 'no'}<td>{html.escape(error.title)}"
        for error in error_classes()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Errors - Tellwire</title>"
        "<style>body{font:16px system-ui;margin:2rem;max-width:60rem}td,th{padding:.3rem .8rem;"
        "text-align:left;vertical-align:top}:target{background:#ffd}</style><h1>Errors</h1>"
        f"<table><tr><th>code<th>status<th>again<th>meaning{rows}</table></html>"
    )


if __name__ == "__main__":
    import_everything()
    sys.stdout.write(markdown())
