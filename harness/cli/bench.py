"""``harness bench``: how fast this machine does what cells do, each figure beside what limits it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from harness import json_process
from harness.cell import Cell
from harness.environment.cpu import cores, processor
from harness.environment.gpus import gpus, visible_gpus
from harness.environment.memory import memory_bytes
from harness.environment.revision import revision
from harness.errors import UserError, nearest
from harness.evaluation import Evaluation
from harness.manifest import Expected, Manifest
from harness.sweep.run.local_scheduler import WAITING
from harness.trees import Node

#: Each with about how many seconds it takes on two cores.
FIGURES = {"loop": 70, "views": 20, "loss": 40, "evaluation": 40, "sweep": 330, "startup": 20, "gpu": 5}
#: Processes that are started for the median of one verb.
STARTS = 5

Row = Mapping[str, Any]


def _complete(incomplete: str) -> list[str]:
    return [name for name in FIGURES if name.startswith(incomplete)]


def bench(
    figure: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Some of: {', '.join(FIGURES)}; all by default.", show_default=False, autocompletion=_complete
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write every round, the hardware and the versions there.", show_default=False),
    ] = None,
) -> None:
    """Measure how fast this machine trains and evaluates.

    It also measures augmentation, a whole sweep and the start of the program, and compares each figure with a baseline
    and a goal. All figures take about nine minutes; run nothing else meanwhile. Temporary files are removed.

    --json writes: date, hardware, versions, figures (by name a list of rows: what, unit, measured, beside, beside_is,
    ratio, goal, of_ratio, at_most, note, raw). measured and beside (the baseline) are medians of the rounds in raw, and
    ratio is the median of measured / beside of each round. The goal is a bound of the ratio if of_ratio, else of
    measured; it is an upper bound if at_most.
    """
    names = figure or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        what = f"there is no figure '{unknown[0]}'{nearest(unknown[0], FIGURES)}"
        raise UserError(what, where="command line", allowed=", ".join(FIGURES))
    if json_file and not json_file.parent.is_dir():
        raise UserError(f"there is no folder {json_file.parent}", where="--json")
    if json_file and json_file.is_dir():
        raise UserError(f"{json_file} is a folder", where="--json", allowed="a file")
    environment, load = about(), os.getloadavg()[0]
    rows_of: dict[str, list[Row]] = {}
    errors: dict[str, UserError] = {}
    if load > 0.5:
        print(f"other programs use this machine (load {load:.1f}): numbers will be low")
    for number, name in enumerate(names, start=1):
        print(f"[{number}/{len(names)}] {name}, about {FIGURES[name]} seconds", flush=True)
        try:
            rows_of[name] = list(measured(name))
        except UserError as error:
            errors[name] = error
    show([row for rows in rows_of.values() for row in rows])
    if json_file:
        json_file.write_text(json.dumps({**environment, "figures": rows_of}, indent=1) + "\n", encoding="utf-8")
        print(f"written: {json_file}")
    for name, why in errors.items():
        print(f"not measured: {name}: {why}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


def about() -> dict[str, Node]:
    """Return the date, the hardware and the versions of a measurement."""
    packages = ("harness", "torch", "torchvision", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "processor": processor(),
            "cores": cores(),
            "gpus": [gpu.name for gpu in visible_gpus()] if gpus() else [],
            "memory_gib": round(memory_bytes("cpu") / 2**30, 1),
            "load": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
            **asdict(revision()),
        },
    }


def measured(name: str) -> Iterator[Row]:
    """Measure a figure and yield its rows.

    Raises:
        UserError: what measures it has failed.
    """
    if name == "startup":
        yield from verbs()

    # Alone in a process: memory and threads that one figure leaves behind are no part of the next.
    module = "harness.ssl.measure.throughput"
    try:
        yield from json_process.call(module, name, environment=WAITING)
    except json_process.ProcessFailed as reason:
        raise UserError(str(reason), next_command=shlex.join(json_process.command(module, name))) from None


def verbs() -> Iterator[Row]:
    """Measure how long verbs that train nothing take to start and to end."""
    with tempfile.TemporaryDirectory() as folder:
        _declare(Path(folder))
        for words, goal in ((["--help"], 0.4), (["status"], 1.0)):
            command = json_process.command("harness.cli.main", *words)
            rounds = []
            for _ in range(STARTS):
                begun = time.perf_counter()
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
                rounds.append(time.perf_counter() - begun)
            yield {
                "what": f"startup: harness {' '.join(words)}", "unit": "s", "measured": statistics.median(rounds),
                "beside": None, "beside_is": "", "ratio": None, "goal": goal, "of_ratio": False, "at_most": True,
                "note": "", "raw": {"seconds": rounds},
            }  # fmt: skip


def _declare(folder: Path) -> None:
    """Write an experiment of a hundred cells that ``status`` shows."""
    cells = [Cell(seed=seed) for seed in range(100)]
    Manifest(
        experiment="bench", scale="demo", title="", question="", caveat="", comparable=True, dataset="digits",
        axes={"seed": [cell.seed for cell in cells]}, cells=[Expected(c.cell_id, {"seed": c.seed}) for c in cells],
        claims=[], evaluation=Evaluation(), settings=asdict(cells[0]), overrides=[], revision="",
    ).write(folder / "results")  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """Print a table with a line for each row."""
    table = Table("figure", "measured", "beside", "ratio", "goal")
    for row in rows:
        table.add_row(row["what"], *_cells(row))
    Console(highlight=False).print(table)


def _cells(row: Row) -> tuple[str, str, str, str]:
    if row["measured"] is None:
        return row["note"], "", "", ""
    beside, ratio = row["beside"], row["ratio"]
    return (
        quantity(row["measured"], row["unit"]),
        f"{quantity(beside, row['unit'])} ({row['beside_is']})" if beside else "",
        f"{ratio:.3g}" if ratio else "",
        "" if row["goal"] is None else _goal(row),
    )


def _goal(row: Row) -> str:
    """Return the goal and whether it is reached."""
    value, goal = row["ratio"] if row["of_ratio"] else row["measured"], row["goal"]
    sign = "≤" if row["at_most"] else "≥"
    bound = f"{goal:g}" if row["of_ratio"] else quantity(goal, row["unit"])
    missed = value > goal if row["at_most"] else value < goal
    return f"{sign} {bound} {'missed' if missed else 'reached'}"


def quantity(value: float, unit: str) -> str:
    """Return the value with three digits and its unit."""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}"
