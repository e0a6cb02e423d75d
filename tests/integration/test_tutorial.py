"""docs/repository-layer.md runs from top to bottom, as it is printed."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from shared.infrastructure.database import configure_database
from shared.infrastructure.encryption import configure_encryption

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

TUTORIAL = Path(__file__).parents[2] / "docs" / "repository-layer.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(server_directory, monkeypatch):
    """A directory of its own and the names that a person's shell would hold."""
    directory = server_directory / "tutorial"
    directory.mkdir(mode=0o711)
    monkeypatch.chdir(directory)
    names: dict = {"__name__": "tutorial"}
    yield names
    configure_database(None)
    configure_encryption(None)
    for server in ("postgres", "redis"):
        if server in names:
            names[server].stop()


async def run(source: str, line: int, names: dict) -> None:
    code = compile(
        "\n" * line + source, str(TUTORIAL), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    result = eval(code, names)  # noqa: S307  # our own document
    if inspect.isawaitable(result):
        await result


def test_no_block_has_an_empty_line_where_a_shell_would_take_it_for_the_end():
    for block in BLOCK.findall(TUTORIAL.read_text("utf-8")):
        assert re.search(r"\n\n[ \t]", block) is None, block


async def test_every_block_of_the_tutorial_runs(shell, capsys):
    text = TUTORIAL.read_text("utf-8")
    blocks = list(BLOCK.finditer(text))

    for block in blocks:
        await run(block[1], text.count("\n", 0, block.start(1)), shell)

    said = re.findall(r"^.*print\(.*\)  # (.*)$", text, re.MULTILINE)
    assert len(blocks) == 12
    assert len(said) == 3
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in said] == said
