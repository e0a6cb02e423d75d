"""Writes what the documents repeat from the code: `docs/reference.md` and the table of settings.

Run it with `make docs`. tests/architecture/test_documents.py fails while a document is not what
this would write.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

from shared.infrastructure.settings import PREFIX, Settings
from shared.kernel.errors import TellwireError

DOCS: Final = Path(__file__).parent
REFERENCE: Final = DOCS / "reference.md"
OPERATIONS: Final = DOCS / "operations.md"
SETTINGS_TABLE: Final = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)

SECTIONS: Final = (
    ("shared.infrastructure.database", "Sessions, tenants and the base of repositories."),
    ("whatsapp.infrastructure.persistence.repositories", "The repositories."),
    ("whatsapp.domain.entities", "What repositories take and give."),
    ("whatsapp.domain.value_objects", "What entities are made of."),
    ("whatsapp.domain.repositories", "The interfaces, for fakes and for other storage."),
    ("whatsapp.domain.rate_limit", "What the rate limiter gives."),
    ("whatsapp.domain.outcome", "What became of one request to Meta."),
    ("shared.infrastructure.encryption", "Encrypted columns and their keys."),
    ("shared.kernel.secret", "Secrets in memory."),
    ("shared.kernel.ids", "Identifiers."),
    ("shared.kernel.clock", "Time."),
    ("shared.kernel.errors", "The root of every refusal."),
)
LONGEST_FIELD: Final = 90
_INTRODUCTION: Final = """\
# Reference of the repository layer

Made from the code by `docs/build_reference.py`; `make docs` writes it anew. How the parts work
together is in the repositories' [README][] and in [architecture.md](architecture.md).

What is listed under an import path is public there. Names that begin with an underscore may change
at any time.

[README]: ../src/modules/whatsapp/infrastructure/persistence/repositories/README.md
"""


def main() -> None:
    """Write every document that has changed."""
    for path, text in documents().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"{path.name} written\n")


def documents() -> Mapping[Path, str]:
    """Each document with the text that it should have."""
    found = {REFERENCE: reference()}
    if OPERATIONS.exists():
        operations = OPERATIONS.read_text("utf-8")
        found[OPERATIONS] = SETTINGS_TABLE.sub(rf"\1{settings_table()}\2", operations)
    return found


def settings_table() -> str:
    """Every setting with its default, in the order in which `Settings` declares them."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = (
            ""
            if default in {None, ""}
            else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        meaning = (field.description or "").replace("<", "&lt;")
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The whole reference."""
    parts = [_INTRODUCTION]
    for module_name, about in SECTIONS:
        module = importlib.import_module(module_name)
        parts.append(f"## {module_name}\n\n{about}\n")
        parts += list(_members(module))
    return "\n".join(parts)


def _members(module: ModuleType) -> Iterator[str]:
    """Classes and functions in order of their names, then a table of the errors."""
    public = {name: getattr(module, name) for name in _public(module)}
    classes = {name: value for name, value in public.items() if inspect.isclass(value)}
    errors = {name: v for name, v in classes.items() if issubclass(v, TellwireError)}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    for name in sorted((classes.keys() - errors.keys()) | functions.keys(), key=str.lower):
        yield _class(classes[name]) if name in classes else _function(functions[name])
    if errors:
        rows = [
            f"| `{n}` | `{e.code}` | {e.status} | {_first_line(e)} |" for n, e in errors.items()
        ]
        yield "\n".join(
            ["| error | code | HTTP | when |", "| --- | --- | --- | --- |", *sorted(rows), ""]
        )


def _public(module: ModuleType) -> list[str]:
    """What `__all__` names; without one, what the module itself defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = ((name, getattr(value, "__module__", "")) for name, value in vars(module).items())
    return [name for name, origin in own if origin == module.__name__ and name[0] != "_"]


def _class(kind: type) -> str:
    """Its head with fields, its promise, then a line for each method."""
    node = _node(kind)
    bases = [ast.unparse(base) for base in node.bases]
    head = [f"class {kind.__name__}({', '.join(bases)})" if bases else f"class {kind.__name__}"]
    head += [f"    {_field(item)}" for item in node.body if _is_public_field(item)]
    methods: list[str] = []
    for item in node.body:
        if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if item.name == "__init__":
            head.append(f"    {kind.__name__}{_arguments(item)}")
        elif item.name[0] != "_":
            methods.append(_method(item))
    code = "\n".join(head)
    parts = [f"### {kind.__name__}", f"```python\n{code}\n```", _doc(kind)]
    return "\n\n".join([*parts, "\n".join(methods)] if methods else parts) + "\n"


def _field(item: ast.stmt) -> str:
    text = ast.unparse(item)
    if len(text) > LONGEST_FIELD and isinstance(item, ast.AnnAssign):
        return f"{ast.unparse(item.target)}: {ast.unparse(item.annotation)} = ..."
    return text


def _is_public_field(item: ast.stmt) -> bool:
    """A field of a dataclass or a member of an enumeration."""
    target = item.target if isinstance(item, ast.AnnAssign) else None
    if isinstance(item, ast.Assign):
        target = item.targets[0]
    return isinstance(target, ast.Name) and target.id[0] != "_"


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """One list item: the signature, and what it promises below it."""
    decorators = {ast.unparse(one) for one in node.decorator_list}
    if "property" in decorators:
        signature = f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    else:
        prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
        signature = f"{prefix}{node.name}{_arguments(node)}"
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    indented = "\n".join(f"  {line}".rstrip() for line in doc.split("\n"))
    return f"- `{signature}`  \n{indented}"


def _function(function: object) -> str:
    node = _node(function)
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    signature = f"{prefix}{node.name}{_arguments(node)}"
    return f"### {node.name}\n\n```python\n{signature}\n```\n\n{_doc(function)}\n"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = ast.unparse(node.args)
    arguments = re.sub(r"^(self|cls)(, |$)", "", arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({arguments}){returns}"


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text("utf-8"))


def _node(thing: object) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef:
    wrapped = inspect.unwrap(thing)
    tree = _tree(inspect.getfile(wrapped))
    return next(node for node in tree.body if getattr(node, "name", "") == wrapped.__name__)


def _doc(thing: object) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


def _first_line(thing: object) -> str:
    return _doc(thing).partition("\n")[0]


if __name__ == "__main__":
    main()
