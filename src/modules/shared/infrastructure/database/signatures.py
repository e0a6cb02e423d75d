"""Repositories that look at what they are given, method by method, as their signatures say.

What is wrong is refused by name before anything is sent, so that the caller's transaction goes on.
What an annotation does not tell (mappings, callables, type variables) is left to the method.
"""

import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import cache, wraps
from inspect import isclass, iscoroutinefunction, signature
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from shared.infrastructure.database.arguments import all_given, given
from shared.infrastructure.database.driver_errors import InvalidValue
from shared.kernel.errors import ensure_type

_Class = TypeVar("_Class", bound=type[Any])
_Look: TypeAlias = Callable[[Any, str], object]
_Method: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]

MOST_ROWS: Final = 2**31 - 1
_MOST: Final = 2**63 - 1
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def looks_at_arguments(*, replaces: Collection[str] = ()) -> Callable[[_Class], _Class]:
    """Decorate a repository: each of its own methods refuses with InvalidValue what cannot be.

    That is another type, a time without its zone, a negative number, and text that PostgreSQL
    cannot hold, except in the methods that `replaces` names: they see to such text themselves.
    """

    def decorate(cls: _Class) -> _Class:
        for name, method in list(vars(cls).items()):
            if not name.startswith("_") and iscoroutinefunction(method):
                setattr(cls, name, _looking(method, replaces_text=name in replaces))
        return cls

    return decorate


def _looking(method: _Method, *, replaces_text: bool) -> _Method:
    names = tuple(signature(method).parameters)[1:]

    @cache  # At the first call: what annotations name may be defined later than the class.
    def looks() -> Mapping[str, _Look]:
        hints = get_type_hints(method)
        found = {name: _look_of(hints.get(name, Any)) for name in names}
        if replaces_text:
            found = {name: _any_text if look is _text else look for name, look in found.items()}
        return {name: look for name, look in found.items() if look is not None}

    @wraps(method)
    async def looked(self: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = looks()
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            look = wanted.get(name)
            if look is not None:
                look(value, name)
        return await method(self, *args, **kwargs)

    return looked


def _look_of(hint: Any) -> _Look | None:
    """What to ask of a value with this annotation; None where it tells nothing."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return _one_of(args)
    if isclass(origin) and issubclass(origin, Sequence) and isclass(args[0]):
        return _texts if args[0] is str else _all(args[0])
    if hint in _OF_TYPES:
        return _OF_TYPES[hint]
    if isclass(hint) and origin is None and not getattr(hint, "_is_protocol", False):
        return lambda value, name: given(hint, value, name)
    return None


def _one_of(kinds: Sequence[Any]) -> _Look | None:
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) > 1:
        if not all(map(isclass, others)):
            return None
        wanted = tuple(others) if len(others) == len(kinds) else (*others, NoneType)
        return lambda value, name: ensure_type(value, wanted, InvalidValue, field=name)
    look = _look_of(others[0])
    if look is None:
        return None
    return lambda value, name: None if value is None else look(value, name)


def _all(kind: type[Any]) -> _Look:
    return lambda value, name: all_given(kind, value, name)


def _any_text(value: Any, name: str) -> None:
    given(str, value, name)


def _text(value: Any, name: str) -> None:
    if _UNSTORABLE.search(given(str, value, name)):
        raise InvalidValue("Text with NUL or half a surrogate pair cannot be stored", field=name)


def _texts(value: Any, name: str) -> None:
    _text("".join(all_given(str, value, name)), name)


def _number(value: Any, name: str) -> None:
    if isinstance(value, bool):
        raise InvalidValue("int is needed, not bool", field=name)
    most = MOST_ROWS if name in {"limit", "look_at"} else _MOST
    if not 0 <= given(int, value, name) <= most:
        raise InvalidValue(f"A number from 0 to {most}", field=name)


def _time(value: Any, name: str) -> None:
    if given(datetime, value, name).utcoffset() is None:
        raise InvalidValue("A time needs its zone", field=name)


_OF_TYPES: Final[Mapping[Any, _Look]] = {str: _text, int: _number, datetime: _time}
