"""Writes down what was measured: a page for people, and a chart of how near each figure is.

What was measured is kept beside the page as JSON, so that a run of one benchmark renews its own
section and leaves the others as they are.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.harness import Figure
from benchmarks.servers import DURABILITY
from rich.console import Console
from rich.table import Table

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CHART, KEPT = (DOCS / f"benchmarks.{kind}" for kind in ("md", "svg", "json"))
PACKAGES = ("sqlalchemy", "asyncpg", "redis", "cryptography", "uvloop")
QUIET_LOAD = 1.5  # Of others, before the run begins.
ROW_HEIGHT, LABEL_WIDTH, BAR_WIDTH, MOST = 24, 470, 300, 2.0


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark measured, when, and how busy the machine was with other things."""

    title: str
    about: str
    figures: Sequence[Figure]
    when: str
    load: tuple[float, float]  # Before, which is the others' alone, and after.

    @property
    def is_judged(self) -> bool:
        """Whether bounds say anything: on a busy machine ratios lie, in either direction."""
        return self.load[0] <= QUIET_LOAD


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    versions: str

    @classmethod
    def here(cls, *, servers: str) -> "Machine":
        """This machine."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        packages = [f"{name} {metadata.version(name)}" for name in PACKAGES]
        python = f"Python {platform.python_version()}"
        versions = ", ".join([python, servers, *packages])
        return cls(_processor(), os.cpu_count() or 1, memory, versions)


def now() -> str:
    """This minute, for people."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def number(value: float, unit: str) -> str:
    """A value in its unit."""
    digits = 2 if value < 10 else 1
    return f"{value:.{digits}f}{'' if unit == 'x' else ' '}{unit}"


def bound(figure: Figure) -> str:
    """The bound in words."""
    if figure.bound is None:
        return "none"
    return f"{'at least' if figure.at_least else 'at most'} {number(figure.bound, figure.unit)}"


def verdict(figure: Figure) -> str:
    """Whether the bound is kept."""
    if figure.bound is None:
        return ""
    return "yes" if figure.is_met else "**no**"


def print_section(console: Console, section: Section) -> None:
    """Show one benchmark's figures in the terminal."""
    table = Table(title=section.title, title_justify="left", title_style="bold", show_lines=True)
    for heading in ("figure", "bound", "measured", "quartiles", "met"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for figure in section.figures:
        low, high = figure.spread
        table.add_row(
            f"{figure.name.replace('`', '')}\n[dim]{figure.detail}[/]",
            bound(figure),
            number(figure.value, figure.unit),
            f"{low:.2f} - {high:.2f}",
            verdict(figure).replace("**no**", "[bold red]no[/]"),
        )
    console.print(table)


def write(measured: Mapping[str, Section], machine: Machine, order: Sequence[str]) -> None:
    """Write docs/benchmarks.md and its chart: what was measured now, and else what was before."""
    known = _kept() | dict(measured)
    sections = [known[name] for name in order if name in known]
    kept = {name: asdict(known[name]) for name in order if name in known}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(_page(sections, machine)) + "\n", encoding="utf-8")
    judged = [section for section in sections if section.is_judged]
    figures = [figure for section in judged for figure in _bounded(section.figures)]
    CHART.write_text("\n".join(_chart(figures)) + "\n", encoding="utf-8")


def _kept() -> dict[str, Section]:
    if not KEPT.exists():
        return {}
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return {
        name: Section(**section | {"figures": [Figure(**one) for one in section["figures"]]})
        for name, section in found.items()
    }


def _bounded(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.bound is not None]


def _page(sections: Sequence[Section], machine: Machine) -> Iterator[str]:
    judged = [section for section in sections if section.is_judged]
    figures = [figure for section in judged for figure in _bounded(section.figures)]
    yield from (
        "# Benchmarks",
        "",
        (
            "Written by `make bench`; `make bench B=send_path` renews one section. Each says "
            "when it was measured."
        ),
        "",
        f"{sum(figure.is_met for figure in figures)} of {len(figures)} bounds are kept.",
        "",
        "![How much of its bound each figure uses](benchmarks.svg)",
        "",
        (
            f"- **Machine:** {machine.processor}, {machine.cores} cores, "
            f"{machine.memory_gib:.0f} GiB"
        ),
        f"- **Versions:** {machine.versions}",
        f"- **Servers:** started for the run, empty, with settings as shipped. {DURABILITY}",
        (
            "- **Method:** rivals take turns, a few calls at a time, in one process and one run. "
            "In each round the fastest tenth of a rival's calls speaks for it, as noise only ever "
            "adds; a figure is the median of its rounds' ratios, shown with their quartiles. "
            "Ratios carry over to other machines better than times do."
        ),
        "",
    )
    for section in sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    before, after = section.load
    yield from (f"## {section.title}", "", section.about, "")
    load = f"load average {before:.1f} before the run and {after:.1f} after"
    yield f"Measured {section.when}; {load}."
    yield from _disturbance(section)
    yield ""
    yield "| figure | bound | measured | quartiles | met | times |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for figure in section.figures:
        low, high = figure.spread
        yield (
            f"| {figure.name} | {bound(figure)} | {number(figure.value, figure.unit)} | "
            f"{low:.2f} - {high:.2f} | {_judgement(section, figure)} | {figure.detail} |"
        )
    yield ""
    missed = {figure.reason: figure for figure in section.figures if not figure.is_met}
    for reason, figure in missed.items():
        yield f"**Missed:** {figure.name}. Why: {reason or 'not profiled yet.'}"
        yield ""
    unbounded = {figure.reason: figure for figure in section.figures if figure.bound is None}
    for reason, figure in unbounded.items():
        if reason:
            yield f"**No bound:** {figure.name}. What makes it up: {reason}"
            yield ""


def _judgement(section: Section, figure: Figure) -> str:
    return verdict(figure) if section.is_judged or figure.bound is None else "not judged"


def _disturbance(section: Section) -> Iterator[str]:
    if not section.is_judged:
        yield (
            "**The machine was busy with other work, so that no bound is judged:** times are too "
            "long, and where they wait for the disk even ratios are wrong. Measure again when it "
            "is quiet."
        )


def _chart(figures: Sequence[Figure]) -> Iterator[str]:
    """Bars of what each figure uses of its bound; the line is the bound."""
    height = ROW_HEIGHT * len(figures) + 44
    width = LABEL_WIDTH + BAR_WIDTH + 60
    line = LABEL_WIDTH + BAR_WIDTH / MOST
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">'
    )
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="{line}" y="18" text-anchor="middle" fill="#333333">bound</text>'
    for row, figure in enumerate(figures):
        bound = figure.bound or 1.0
        used = bound / figure.value if figure.at_least else figure.value / bound
        y = 28 + ROW_HEIGHT * row
        colour = "#2e7d4f" if figure.is_met else "#b3402a"
        length = BAR_WIDTH * min(used, MOST) / MOST
        name = escape(_short(figure.name))
        yield (
            f'<text x="{LABEL_WIDTH - 8}" y="{y + 15}" text-anchor="end" fill="#333333">'
            f"{name}</text>"
        )
        yield (
            f'<rect x="{LABEL_WIDTH}" y="{y + 3}" width="{length:.1f}" height="16" rx="2" '
            f'fill="{colour}"/>'
        )
        yield (
            f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{y + 15}" fill="#333333">'
            f"{number(figure.value, figure.unit)}</text>"
        )
    yield (
        f'<line x1="{line}" x2="{line}" y1="24" y2="{height - 12}" stroke="#333333" '
        'stroke-dasharray="4 3"/>'
    )
    yield "</svg>"


def _short(name: str) -> str:
    bare = name.replace("`", "")
    return bare if len(bare) <= 78 else f"{bare[:77]}…"
