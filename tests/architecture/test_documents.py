"""Documents that can be followed: links, paths, names, commands and settings in them exist."""

import ast
import importlib.util
import os
import pkgutil
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from shared.infrastructure.settings import PREFIX, Settings
from tellwire.cli.commands import app

ROOT = Path(__file__).parents[2]
SKIPPED = {".venv", ".git", "build", "dist", ".tellwire"}
LINK = re.compile(
    r"\[[^\]\n]*\]\(([^)\s]+)\)|^\[[^\]\n]+\]: +(\S+)$|(?:src|href|srcset)=\"([^\"]+)\"",
    re.MULTILINE,
)
SHOWN_PATH = re.compile(
    r"`((?:src|docs|tests|migrations|benchmarks|deploy|\.ci)/[\w./-]+)(?:::(\w+))?`"
)
DOTTED = re.compile(
    r"`((?:shared|tenancy|whatsapp|whatsapp_simulator|tellwire)(?:\.\w+)+)(?:\(\))?`"
)
MAKE = re.compile(r"(?:`|^\$ )make ([a-z]+)", re.MULTILINE)
COMMAND = re.compile(r"(?:`|^\$ |^)tellwire ((?:[a-z]+ ?)+)", re.MULTILINE)
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]\b")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_VARIABLES = {
    f"{PREFIX}{name}"
    for name in ("ACCESS_TOKEN", "API_KEY", "APP_SECRET", "VERIFY_TOKEN", "SIMULATOR_PORT")
} | {f"{PREFIX}SIMULATOR_{n}" for n in ("CONFIG", "HOST", "WEBHOOK_URL", "APP_SECRET")}
"""What commands and the simulator read besides the settings."""
MADE_LATER = {"docs/benchmarks.md"}
"""What `make bench` writes."""


def _documents() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED and name[0] != "."]
        yield from (Path(folder) / name for name in files if name.endswith(".md"))


DOCUMENTS = sorted(_documents())
every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(d.relative_to(ROOT)) for d in DOCUMENTS]
)


def _anchors(document: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} +(.+)$", text, flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    named = re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)
    return {heading.strip().replace(" ", "-") for heading in kept} | set(named)


@every_document
def test_relative_links_lead_somewhere(document) -> None:
    broken = []
    for found in LINK.finditer(document.read_text("utf-8")):
        target = next(filter(None, found.groups()))
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (document.parent / path).resolve() if path else document
        if not aim.exists() or (anchor and anchor not in _anchors(aim)):
            broken.append(target)

    assert broken == []


@every_document
def test_paths_in_the_text_exist(document) -> None:
    missing = []
    for path, name in SHOWN_PATH.findall(document.read_text("utf-8")):
        aim = ROOT / path
        if path in MADE_LATER:
            continue
        if not aim.exists() or (name and f"def {name}(" not in aim.read_text("utf-8")):
            missing.append(f"{path}::{name}")

    assert missing == []


@every_document
def test_names_of_modules_and_what_they_hold_exist(document) -> None:
    missing = []
    for name in DOTTED.findall(document.read_text("utf-8")):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)

    assert missing == []


@every_document
def test_make_targets_exist(document) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert set(MAKE.findall(document.read_text("utf-8"))) - targets == set()


@every_document
def test_commands_exist(document) -> None:
    root = typer.main.get_command(app)
    unknown = []
    for words in COMMAND.findall(document.read_text("utf-8")):
        command = root
        for word in words.split():
            if not isinstance(command, TyperGroup):
                break  # an argument
            command = command.get_command(typer.Context(command), word)
            if command is None:
                unknown.append(words)
                break

    assert unknown == []


@every_document
def test_variables_exist(document) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES

    assert set(VARIABLE.findall(document.read_text("utf-8"))) - known == set()


@every_document
def test_python_in_the_text_is_python_and_imports_what_exists(document) -> None:
    missing = []
    for code in PYTHON.findall(document.read_text("utf-8")):
        if document.name == "reference.md":
            continue  # signatures, made from the code
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = pkgutil.resolve_name(node.module)
                missing += [a.name for a in node.names if not hasattr(module, a.name)]

    assert missing == []


def test_what_documents_repeat_from_the_code_is_current() -> None:
    file = ROOT / "docs" / "build_reference.py"
    spec = importlib.util.spec_from_file_location("build_reference", file)
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    found = builder.documents()
    assert {path.name for path in found} == {"reference.md", "operations.md"}

    old = [path.name for path, text in found.items() if path.read_text("utf-8") != text]

    assert old == [], "run make docs"


def test_every_decision_ends_with_the_check_that_holds_it() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert decisions

    last = {d.name: d.read_text("utf-8").strip().rpartition("\n\n")[2] for d in decisions}
    assert [name for name, line in last.items() if "`tests/" not in line] == []


def test_pictures_are_whole_and_say_what_they_show() -> None:
    pictures = list((ROOT / "docs" / "images").glob("*.svg"))
    assert pictures

    for picture in pictures:
        tree = ET.parse(picture)  # noqa: S314  # our own file
        names = {element.tag.rpartition("}")[2] for element in tree.getroot()}
        assert {"title", "desc"} <= names


def test_the_rules_find_what_they_look_for() -> None:
    text = "[a](b.md#c) `src/x.py::test_y` `make demo` `tellwire keys add` `shared.kernel.ids`"

    assert LINK.search(text).group(1) == "b.md#c"
    assert SHOWN_PATH.findall(text) == [("src/x.py", "test_y")]
    assert MAKE.findall(text) == ["demo"]
    assert [words.strip() for words in COMMAND.findall(text)] == ["keys add"]
    assert DOTTED.findall(text) == ["shared.kernel.ids"]
