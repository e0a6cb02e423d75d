"""The sources as the architecture tests see them: read and parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "src" / "modules"


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file below `src/modules`; `path` is relative to it."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> tuple[Source, ...]:
    found = tuple(_read())
    assert len(found) > 100, "the sources are somewhere else now"
    return found


def _read() -> Iterator[Source]:
    for file in sorted(MODULES.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        yield Source(file.relative_to(MODULES).as_posix(), text, ast.parse(text))
