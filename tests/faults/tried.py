"""What the tests of faults have tried, as the tables of docs/reliability.md.

    python tests/faults/tried.py
    python tests/faults/tried.py tests/faults/test_clocks.py

It runs every test that is marked with ``tried(kind, what)``, counts those that passed by their marks, and writes the
counts into ``tests/faults/tried.json`` and their tables into the page. A test that does its fault several times records
how often (``times``), and one that can lose work records how many epochs were computed again (``again``). Where only
some tests are named, the rows of the others stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE, COUNTS = ROOT / "docs" / "reliability.md", ROOT / "tests" / "faults" / "tried.json"
BEGIN, END = "<!-- tables of tests/faults/tried.py -->", "<!-- end of the tables -->"
#: The order of the tables.
KINDS = ("kills", "full disks", "clocks", "frozen processes", "load", "hostile archives and files")
REPORT = "--tried"

#: By kind and what was done: how often, how many tests failed, and how many epochs were computed again.
Counts = dict[str, dict[str, dict[str, int]]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(REPORT, type=Path, help="where to write what was tried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the report of each test carry its mark, also from another process."""
    for item in items:
        if mark := item.get_closest_marker("tried"):
            item.user_properties.append(("tried", list(mark.args)))


class Counter:
    """Counts the reports of tests, in the process that gets all of them."""

    def __init__(self) -> None:
        self.counts: Counts = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test that was called, or that failed before."""
        properties = dict(report.user_properties)
        if "tried" not in properties or report.skipped or (report.when != "call" and report.passed):
            return
        kind, what = properties["tried"]  # type: ignore[misc]
        row = self.counts.setdefault(str(kind), {}).setdefault(str(what), {"times": 0, "failed": 0, "again": 0})
        row["times"] += int(properties.get("times", 1))  # type: ignore[call-overload]
        row["failed"] += int(report.failed)
        row["again"] += int(properties.get("again", 0))  # type: ignore[call-overload]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Counter(), "counter of what was tried")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write what was counted."""
    counter, path = config.pluginmanager.get_plugin("counter of what was tried"), config.getoption(REPORT)
    if counter and path:
        path.write_text(json.dumps(counter.counts))


def tables(counts: Counts) -> str:
    """Return the tables of the page, one for each kind."""
    lines = []
    for kind in (kind for kind in KINDS if kind in counts):
        title = kind[0].upper() + kind[1:]
        lines += [f"### {title}", "", "| what was done | how often | ends as it must | epochs computed again |"]
        lines.append("|---|---|---|---|")
        for what, row in sorted(counts[kind].items()):
            ends = "always" if not row["failed"] else f"FAILED in {row['failed']} tests"
            lines.append(f"| {what} | {row['times']} | {ends} | {row['again']} |")
        lines.append("")
    return "\n".join(lines)


def on_page(page: str) -> str:
    """Return the tables that the page has."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tried.json"
        command = [sys.executable, "-m", "pytest", "-p", "tests.faults.tried", "-m", "tried", REPORT, str(report)]
        code = subprocess.run([*command, *sys.argv[1:]], cwd=ROOT, check=False).returncode
        counts: Counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        for kind, rows in json.loads(report.read_text()).items():
            counts[kind] = {**counts.get(kind, {}), **rows}
    COUNTS.write_text(f"{json.dumps(counts, indent=1, sort_keys=True)}\n")
    page = PAGE.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(counts)}\n{END}{after}")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
