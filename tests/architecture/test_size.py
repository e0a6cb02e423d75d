"""Files of one concept, functions that fit on a screen, escapes that give their reason."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 50
LONGER = {
    "whatsapp/infrastructure/cloud_api/code_table.py": "a table: one row for each code of Meta",
    "whatsapp/infrastructure/persistence/repositories/message_statements.py": "SQL: one statement "
    "for each repository method",
}
"""Files that are data, with what they hold."""

ESCAPE = re.compile(r"#\s*(noqa\b|type:\s*ignore|pyright:\s*ignore|pragma:)")
WITH_REASON = re.compile(
    r"#\s*(noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\]|pyright: ignore\[\w+\]|pragma: [\w ]+)"
    r"(\s+# \S.*)$"
)


def test_files_stay_short(sources) -> None:
    long = {source.path for source in sources if source.text.count("\n") > MOST_LINES}

    assert long - set(LONGER) == set()
    assert set(LONGER) - long == set(), "these are short enough now"


def test_functions_fit_on_a_screen(sources) -> None:
    assert [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ] == []


def _comments(file: Path) -> Iterator[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
    return ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)


def test_every_line_escape_gives_its_reason(root) -> None:
    files = [f for top in ("src", "migrations") for f in (root / top).rglob("*.py")]

    assert [
        f"{file.relative_to(root)}:{line} {comment}"
        for file in files
        for line, comment in _comments(file)
        if ESCAPE.search(comment) and not WITH_REASON.search(comment)
    ] == []


@pytest.mark.parametrize(
    ("comment", "has_reason"),
    [
        ("# noqa: S608  # constants of this module", True),
        ("# type: ignore[misc]  # publishes no types", True),
        ("# noqa: S608", False),
        ("# noqa", False),
        ("# type: ignore", False),
        ("# type: ignore[misc]", False),
    ],
)
def test_the_rule_about_escapes_knows_a_reason_when_it_sees_one(comment, has_reason) -> None:
    assert ESCAPE.search(comment)
    assert bool(WITH_REASON.search(comment)) is has_reason
