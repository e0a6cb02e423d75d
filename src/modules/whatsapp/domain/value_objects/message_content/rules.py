"""The few kinds of rules from which every message type's table is made.

A rule looks at one frozen JSON value and either is content or raises `InvalidContent` with the
path of the offending part. Rules are as lenient as Meta is known to be: keys they do not name are
left alone, because Meta adds fields often, and an optional key that is null counts as absent.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from whatsapp.domain.value_objects.message_content.frozen_json import (
    Fault,
    InvalidContent,
    Json,
    kind_of,
)

Law: TypeAlias = Callable[[Any, str], None]
"""What holds between parts; runs after they have passed, so that it may rely on their types."""

MAX_LINK_CHARACTERS = 2048
_LINK = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{1,30})?")


class Rule(ABC):
    """Says whether a value may stand where it stands."""

    __slots__ = ()

    def __call__(self, value: Json, at: str) -> None:
        """Return if the value is fine; raise `InvalidContent` at the path `at` or below if not."""
        self._check(value, at)

    @abstractmethod
    def _check(self, value: Json, at: str) -> None: ...


def refuse_kind(needed: str, value: Json, at: str) -> InvalidContent:
    """The refusal of a value whose JSON type is wrong."""
    return InvalidContent(f"{needed} is needed, found {kind_of(value)}", field=at)


def _missing(at: str) -> InvalidContent:
    return InvalidContent("is required", field=at, fault=Fault.MISSING)


@dataclass(frozen=True, slots=True)
class Text(Rule):
    """A text of `least` to `most` characters (code points); without `most`, of any length."""

    most: int | None = None
    least: int = 1

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, str):
            raise refuse_kind("a text", value, at)
        if len(value) < self.least:
            raise InvalidContent("must not be empty", field=at, fault=Fault.MISSING)
        if self.most is not None and len(value) > self.most:
            detail = f"{len(value)} characters, at most {self.most}"
            raise InvalidContent(detail, field=at, fault=Fault.TOO_LONG)


@dataclass(frozen=True, slots=True)
class Matching(Rule):
    """A text of a shape; `shape` says in words what `pattern` says in signs."""

    pattern: re.Pattern[str]
    shape: str
    most: int | None = None

    def _check(self, value: Json, at: str) -> None:
        Text(self.most)(value, at)
        if not isinstance(value, str) or self.pattern.fullmatch(value) is None:
            raise InvalidContent(f"must be {self.shape}", field=at)


@dataclass(frozen=True, slots=True)
class Link(Rule):
    """An absolute http or https address that Meta can fetch or a person can open."""

    def _check(self, value: Json, at: str) -> None:
        Text(MAX_LINK_CHARACTERS)(value, at)
        if not isinstance(value, str) or not self._has_host(value):
            raise InvalidContent("must be an http or https URL without spaces", field=at)

    @staticmethod
    def _has_host(link: str) -> bool:
        try:
            return _LINK.fullmatch(link) is not None and bool(urlsplit(link).hostname)
        except ValueError:  # an unclosed bracket, for one
            return False


@dataclass(frozen=True, slots=True)
class Flag(Rule):
    """True or false."""

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, bool):
            raise refuse_kind("a boolean", value, at)


@dataclass(frozen=True, slots=True)
class Whole(Rule):
    """A whole number within bounds; with `or_text` its digits in a text, too."""

    least: int
    most: int
    or_text: bool = False

    def _check(self, value: Json, at: str) -> None:
        number = value
        if self.or_text and isinstance(value, str):
            number = int(value) if _DIGITS.fullmatch(value) else None
        if isinstance(number, bool) or not isinstance(number, int):
            raise refuse_kind("a whole number", value, at)
        if not self.least <= number <= self.most:
            raise InvalidContent(f"must be {self.least} to {self.most}", field=at)


@dataclass(frozen=True, slots=True)
class Degrees(Rule):
    """Degrees of latitude or longitude, as a number or as a numeric text (Meta's example)."""

    most: int

    def _check(self, value: Json, at: str) -> None:
        degrees = value
        if isinstance(value, str):
            degrees = float(value) if _DECIMAL.fullmatch(value) else None
        if isinstance(degrees, bool) or not isinstance(degrees, int | float):
            raise refuse_kind("a number or a numeric text", value, at)
        if abs(degrees) > self.most:
            raise InvalidContent(f"must be -{self.most} to {self.most} degrees", field=at)


@dataclass(frozen=True, slots=True)
class Choice(Rule):
    """One of a few texts."""

    among: tuple[str, ...]

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, str):
            raise refuse_kind("a text", value, at)
        if value not in self.among:
            raise InvalidContent(f"must be one of {', '.join(self.among)}", field=at)


@dataclass(frozen=True, slots=True)
class Items(Rule):
    """An array of `least` to `most` elements that each keep a rule, and laws between them."""

    each: Rule
    most: int | None = None
    least: int = 1
    laws: tuple[Law, ...] = ()

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, tuple):
            raise refuse_kind("an array", value, at)
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            bounds = f"at least {self.least}" + (f", at most {self.most}" if self.most else "")
            raise InvalidContent(f"{len(value)} elements, {bounds}", field=at)
        for index, element in enumerate(value):
            self.each(element, f"{at}[{index}]")
        for law in self.laws:
            law(value, at)


@dataclass(frozen=True, slots=True)
class Fields(Rule):
    """An object with the rules of its keys; a key that no rule names may hold anything.

    `exactly_one` names keys that exclude each other; `never` names keys that cannot stand here.
    """

    required: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    optional: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    exactly_one: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    laws: tuple[Law, ...] = ()

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, Mapping):
            raise refuse_kind("an object", value, at)
        self._check_presence(value, at)
        for rules in (self.required, self.optional):
            for key, rule in rules.items():
                if (part := value.get(key)) is not None:
                    rule(part, f"{at}.{key}")
        for law in self.laws:
            law(value, at)

    def _check_presence(self, value: Mapping[str, Json], at: str) -> None:
        for key in self.required:
            if value.get(key) is None:
                raise _missing(f"{at}.{key}")
        for key in self.never:
            if value.get(key) is not None:
                raise InvalidContent(
                    "cannot be used here", field=f"{at}.{key}", fault=Fault.UNEXPECTED
                )
        present = [key for key in self.exactly_one if value.get(key) is not None]
        if self.exactly_one and len(present) != 1:
            found = " and ".join(present) or "none"
            wanted = " and ".join(self.exactly_one)
            raise InvalidContent(
                f"exactly one of {wanted} is needed, found {found}",
                field=at,
                fault=Fault.WRONG if present else Fault.MISSING,
            )


@dataclass(frozen=True, slots=True)
class Variant(Rule):
    """An object whose text under `key` says which rule it keeps; `otherwise` is for the rest.

    Without `otherwise` an unknown text is refused. `fold_case` is for the places where clients
    write capitals and Meta takes them.
    """

    rules: Mapping[str, Rule]
    otherwise: Rule | None = None
    key: str = "type"
    fold_case: bool = False

    def _check(self, value: Json, at: str) -> None:
        if not isinstance(value, Mapping):
            raise refuse_kind("an object", value, at)
        name = value.get(self.key)
        if name is None:
            raise _missing(f"{at}.{self.key}")
        if not isinstance(name, str):
            raise refuse_kind("a text", name, f"{at}.{self.key}")
        rule = self.rules.get(name.lower() if self.fold_case else name, self.otherwise)
        if rule is None:
            names = ", ".join(self.rules)
            raise InvalidContent(f"must be one of {names}", field=f"{at}.{self.key}")
        rule(value, at)


@dataclass(frozen=True, slots=True)
class With(Rule):
    """An object that keeps one rule where `key` is present and another where it is not."""

    key: str
    present: Rule
    absent: Rule

    def _check(self, value: Json, at: str) -> None:
        has_key = isinstance(value, Mapping) and value.get(self.key) is not None
        (self.present if has_key else self.absent)(value, at)


def distinct(*path: str) -> Law:
    """The law that no two elements of an array have the same value at `path`."""

    def law(elements: Any, at: str) -> None:
        seen: set[object] = set()
        for index, element in enumerate(elements):
            value = _dig(element, path)
            if value in seen:
                where = ".".join((f"{at}[{index}]", *path))
                raise InvalidContent("repeats the one of an earlier element", field=where)
            seen.add(value)

    return law


def alike(*path: str) -> Law:
    """The law that all elements of an array have the same value at `path`."""

    def law(elements: Any, at: str) -> None:
        for index, element in enumerate(elements):
            if _dig(element, path) != _dig(elements[0], path):
                where = ".".join((f"{at}[{index}]", *path))
                raise InvalidContent("must be the same in every element", field=where)

    return law


def in_all(key: str, most: int) -> Law:
    """The law that the arrays under `key` hold at most `most` elements together."""

    def law(elements: Any, at: str) -> None:
        count = sum(len(element[key]) for element in elements)
        if count > most:
            raise InvalidContent(f"{count} {key} in all, at most {most}", field=at)

    return law


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
