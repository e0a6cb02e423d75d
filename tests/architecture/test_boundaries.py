"""What layers may know of each other beyond what import-linter can say, and where I/O may stand."""

import ast
import sys
from collections.abc import Iterator

import pytest

ALLOWED = {
    "shared/kernel/": ("shared.kernel",),
    "tenancy/domain/": ("shared.kernel", "tenancy.domain"),
    "tenancy/application/": ("shared.kernel", "tenancy.domain", "tenancy.application"),
    "whatsapp/domain/": ("shared.kernel", "whatsapp.domain"),
    "whatsapp/application/": ("shared.kernel", "whatsapp.domain", "whatsapp.application"),
}
"""Besides the standard library. What is not in this list needs a decision, not an entry."""


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield node.module or ""


def _is_allowed(name: str, layers: tuple[str, ...]) -> bool:
    if name.partition(".")[0] in sys.stdlib_module_names:
        return True
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


@pytest.mark.parametrize("folder", ALLOWED)
def test_domain_and_application_need_python_and_each_other_alone(folder, sources) -> None:
    files = [source for source in sources if source.path.startswith(folder)]
    assert files

    assert [
        f"{source.path}: {name}"
        for source in files
        for name in _imports(source.tree)
        if not _is_allowed(name, ALLOWED[folder])
    ] == []


def _transactions(tree: ast.Module) -> Iterator[tuple[str, ast.AsyncWith]]:
    """Each `async with ...begin(...) as work` block, and what the transaction is called there."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.AsyncWith):
            continue
        for item in node.items:
            call, name = item.context_expr, item.optional_vars
            opens = isinstance(call, ast.Call) and ast.unparse(call.func).endswith("begin")
            if opens and isinstance(name, ast.Name):
                yield name.id, node


def _foreign_waits(tree: ast.Module) -> Iterator[ast.AST]:
    """What is awaited inside a transaction and has nothing to do with it."""
    for work, block in _transactions(tree):
        for node in ast.walk(block):
            waits = isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
            if not waits or node is block:
                continue
            awaited = getattr(node, "value", None) or getattr(node, "iter", None) or node.items[0]
            names = {name.id for name in ast.walk(awaited) if isinstance(name, ast.Name)}
            if work not in names:
                yield node


def test_nothing_but_the_database_is_waited_for_inside_a_transaction(sources) -> None:
    blocks = [block for source in sources for block in _transactions(source.tree)]
    assert len(blocks) > 10, "transactions are opened in another way now"

    assert [
        f"{source.path}:{node.lineno}" for source in sources for node in _foreign_waits(source.tree)
    ] == []


@pytest.mark.parametrize(
    ("body", "is_foreign"),
    [
        ("await work.messages.save(x)", False),
        ("await save_all(work, x)", False),
        ("await self.sender.send(x)", True),
        ("await asyncio.sleep(1)", True),
        ("async with http.post(x) as answer: pass", True),
        ("x = [await http.get(u) for u in urls]", True),
    ],
)
def test_the_rule_about_transactions_finds_what_it_bans(body, is_foreign) -> None:
    tree = ast.parse(f"async def f():\n  async with self.begin(t) as work:\n    {body}")

    assert any(_foreign_waits(tree)) is is_foreign
