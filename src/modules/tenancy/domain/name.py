"""What tenants and keys may be called."""

import unicodedata
from typing import Final

from shared.kernel.errors import InvalidInput, ensure_type

MAX_NAME_CHARACTERS: Final = 200


def checked_name(name: str, error: type[InvalidInput]) -> str:
    """The name without spaces around it; raises `error` for one that nobody could read."""
    ensure_type(name, str, error, field="name")
    name = name.strip()
    if not name:
        raise error("A name is needed", field="name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise error(f"{len(name)} characters, at most {MAX_NAME_CHARACTERS}", field="name")
    # Control characters, lone surrogates and the like: a log or a terminal would act on them.
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise error("Only characters that can be seen", field="name")
    return name
