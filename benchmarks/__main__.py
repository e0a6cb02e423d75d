"""`python -m benchmarks [name ...]`: measure, show, and write docs/benchmarks.md.

A benchmark is a module of this directory with a TITLE and `async def run(context)`, which gives
its figures; its docstring becomes the text above its table.
"""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import asyncpg
import uvloop
from benchmarks import report
from benchmarks.harness import Context
from benchmarks.servers import Servers, running_servers
from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tellwire.embedded.postgres import SUPERUSER

QUICK = 0.25
FIRST = ("repository", "rls", "encryption")  # The others follow by name.


def find_benchmarks() -> dict[str, ModuleType]:
    """Every benchmark by its module's name, in the order of the page."""
    here = Path(__file__).parent
    packages = {path.parent.name for path in here.glob("*/__init__.py")}
    names = {path.stem for path in here.glob("*.py")} - {"__main__"} | packages
    ordered = [*FIRST, *sorted(names - set(FIRST))]
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in ordered}
    return {name: module for name, module in modules.items() if hasattr(module, "TITLE")}


async def measure(
    names: Sequence[str], found: dict[str, ModuleType], *, scale: float
) -> tuple[dict[str, report.Section], report.Machine]:
    """Run the named benchmarks one after the other on servers of their own."""
    sections: dict[str, report.Section] = {}
    others = os.getloadavg()[0]  # Later it is our own.
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with running_servers() as servers, Progress(*columns, console=Console(stderr=True)) as progress:
        context = Context(servers, progress, scale)
        for name in names:
            sections[name] = await _section(found[name], context, others)
            report.print_section(progress.console, sections[name])
        versions = await _server_versions(servers)
    return sections, report.Machine.here(servers=versions)


async def _section(benchmark: ModuleType, context: Context, others: float) -> report.Section:
    when = report.now()
    figures = await benchmark.run(context)
    load = (others, os.getloadavg()[0])
    return report.Section(
        benchmark.TITLE, (benchmark.__doc__ or "").strip(), figures, when=when, load=load
    )


async def _server_versions(servers: Servers) -> str:
    dsn = servers.postgres.url(SUPERUSER, "postgres").replace("+asyncpg", "")
    connection = await asyncpg.connect(dsn)
    try:
        postgres = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    with Redis.from_url(servers.redis.url) as client:
        redis = client.info("server")["redis_version"]
    return f"PostgreSQL {postgres.split()[0]}, Redis {redis}"


def main() -> int:
    """Measure what the command line names, or everything."""
    found = find_benchmarks()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Tellwire beside its rivals, without names everything; renews what "
        "was measured in docs/benchmarks.md.",
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(found))
    parser.add_argument("--quick", action="store_true", help="fewer rounds; writes nothing")
    arguments = parser.parse_args()
    names = list(dict.fromkeys(arguments.names)) or list(found)
    if unknown := sorted(set(names) - set(found)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(found)}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = measure(names, found, scale=QUICK if arguments.quick else 1.0)
        sections, machine = runner.run(work)
    if not arguments.quick:
        report.write(sections, machine, list(found))
        print(f"Written: {report.PAGE.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
