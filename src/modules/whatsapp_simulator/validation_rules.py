"""The single checks that message validation is made of; each raises Meta's code."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from whatsapp_simulator.graph_errors import GraphError


def given(content: dict[str, Any], name: str) -> bool:
    """Whether there is a value under a key; null is none."""
    return content.get(name) is not None


def required(content: dict[str, Any], name: str, *, within: str) -> Any:
    """The value of a key that must be there: 131008 otherwise."""
    value = content.get(name)
    if value is None:
        raise GraphError(131008, f"Parameter '{within}.{name}' is mandatory")
    return value


def section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a key: 131008 if missing, 131009 if not an object."""
    value = content.get(name)
    if value is None:
        raise GraphError(131008, f"Parameter '{name}' is mandatory")
    if not isinstance(value, dict):
        raise GraphError(131009, f"Parameter '{name}' must be a JSON object")
    return value


def items(
    content: dict[str, Any], name: str, *, within: str, least: int = 1, most: int | None = None
) -> list[dict[str, Any]]:
    """The list of objects under a key: 131008 if missing, 131009 for shape or number."""
    value = content.get(name)
    where = f"{within}.{name}" if within else name
    if value is None:
        raise GraphError(131008, f"Parameter '{where}' is mandatory")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise GraphError(131009, f"Parameter '{where}' must be an array of objects")
    if len(value) < least or (most is not None and len(value) > most):
        raise GraphError(131009, f"Parameter '{where}' has {len(value)} elements")
    return value


def text(value: Any, where: str, *, most: int | None = None) -> str:
    """A text that is not empty: 131008 if missing, 131009 if no text, 100 if too long."""
    if value is None or value == "":
        raise GraphError(131008, f"The parameter {where} is required.")
    if not isinstance(value, str):
        raise GraphError(131009, f"Param {where} must be a string.")
    if most is not None and len(value) > most:
        raise GraphError(100, f"Param {where} must be at most {most} characters long.")
    return value


def at_most(value: Any, where: str, *, most: int) -> str:
    """A text that may be empty: 131009 if no text, 100 if too long."""
    return text(value, where, most=most) if value != "" else ""


def exactly_one(content: dict[str, Any], names: tuple[str, str], *, within: str) -> None:
    """One key of two: 131008 without either, 131009 with both."""
    found = sum(given(content, name) for name in names)
    if found != 1:
        either = f"{within}['{names[0]}'] and {within}['{names[1]}']"
        raise GraphError(131009 if found else 131008, f"Exactly one of {either} is needed")


def named(content: dict[str, Any], key: str, name: str, *, within: str) -> None:
    """A key that has one value only: 131008 if missing, 131009 otherwise."""
    if required(content, key, within=within) != name:
        raise GraphError(131009, f"Parameter '{within}.{key}' must be {name}")


def unexpected(content: dict[str, Any], *names: str, within: str) -> None:
    """Keys that may not be there: 100, as for all that Graph does not know in this place."""
    for name in names:
        if given(content, name):
            raise GraphError(100, f'Unexpected key "{name}" on param "{within}".')


def flag(value: Any, where: str) -> bool:
    """A boolean: 131009 otherwise."""
    if not isinstance(value, bool):
        raise GraphError(131009, f"Param {where} must be a boolean.")
    return value


def one_of(value: Any, options: Collection[str], where: str) -> str:
    """One of a few texts: 131009 otherwise."""
    if not isinstance(value, str) or value not in options:
        raise GraphError(131009, f"Param {where} must be one of {{{', '.join(sorted(options))}}}")
    return value


def url(value: Any, where: str) -> str:
    """An http or https address: 131009 otherwise."""
    address = text(value, where)
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise GraphError(131009, f"Param {where} is not a valid URL.")
    return address


def matching(value: Any, pattern: str, where: str) -> str:
    """A text of a certain shape: 131009 otherwise."""
    if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
        raise GraphError(131009, f"Param {where} is not valid.")
    return value
