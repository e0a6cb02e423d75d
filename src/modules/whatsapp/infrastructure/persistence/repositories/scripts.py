"""The Lua scripts beside this file, by name."""

import hashlib
from functools import cache
from importlib import resources
from typing import Final

_PACKAGE: Final = "whatsapp.infrastructure.persistence.repositories"


@cache
def script(name: str) -> tuple[str, str]:
    """The script's text and the digest that Redis knows it by."""
    text = resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
