"""``harness evaluate``: add an evaluation to finished cells, without training."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.shared.arguments import Results, command
from harness.cli.shared.extra_evaluation import ExtraEvaluation, OnDataset, Preset, Root, requested_evaluation
from harness.cli.shared.selection import AsJson, Target, named_cells
from harness.cli.shared.text import hours
from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.record import Record
from harness.study.frame import tidy
from harness.sweep.run.reevaluate import run, tasks
from harness.sweep.run.slots import divide
from harness.trees import Node


def evaluate(
    target: Target,
    preset: Preset,
    dataset: OnDataset = "",
    root: Root = "",
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Evaluate finished cells in another way, without training.

    The trained encoders in the records are used. Nothing is replaced: a record keeps every evaluation. The same command
    again evaluates only what is missing.
    """
    added = requested_evaluation(preset, dataset, root)
    for note in added.other.files.notes if added.other else ():
        print(f"note: {note}", file=sys.stderr if as_json else sys.stdout)
    manifest, cells = named_cells(target, results)
    if not any(record.outcome() for _, record in cells):
        raise UserError("no cell has finished", where=" ".join(target), next_command="harness status")
    try:
        errors = _evaluate(cells, added, results, sys.stderr if as_json else sys.stdout)
    except KeyboardInterrupt:
        again = command("evaluate", [*target, *added.options()], results)
        print(f"\nstopped; what was evaluated is kept. Go on with: {again}", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(_listed(cells, added, errors), indent=1))
    else:
        _print_table(manifest, cells, added, results)
        for name, error in errors.items():
            print(f"not evaluated: {name}: {error}")
        if manifest:
            print(f"report:   {command('report', [*target, *added.options()], results)}")
    if errors:
        raise typer.Exit(1)


def _evaluate(
    cells: Sequence[tuple[str, Record]], added: ExtraEvaluation, results: Path, screen: TextIO
) -> dict[str, str]:
    """Evaluate what is missing; return the errors of cells that could not be evaluated, by their names."""
    missing = {record.cell_id: name for name, record in cells if record.outcome() and added.metrics(record) is None}
    records = [record for _, record in cells if record.cell_id in missing]
    errors = {
        missing[record.cell_id]: f"its encoder is not in {record.path}: it is kept where the cell was trained"
        for record in records
        if record.encoder() is None
    }
    able = [record for record in records if record.encoder()]
    todo = tasks(able, added.evaluation, added.other, added.root or None, added.preset)
    if not missing:
        print("Nothing is missing.", file=screen)
    if not todo:
        return errors
    slots = divide(1, None, "auto")
    for count, ended in enumerate(run(todo, added.evaluation, slots, results / "evaluate.log"), start=1):
        name = missing[ended.task.record.cell_id]
        if ended.metrics is None:
            result = errors[name] = ended.error
        else:
            result = (
                f"kNN {ended.metrics['test_knn']:.2f} %, linear {ended.metrics['test_linear']:.2f} % "
                f"(initial encoder {ended.metrics['init_knn']:.2f} %), {hours(ended.seconds / 3600)}"
            )
        print(f"[{count}/{len(todo)}] {name}: {result}", file=screen, flush=True)
    return errors


def _print_table(
    manifest: Manifest | None, cells: Sequence[tuple[str, Record]], added: ExtraEvaluation, results: Path
) -> None:
    """Print a row for each arm of an experiment, or else for each cell."""
    from harness.study.report.tables import for_people

    if manifest:
        shown = for_people(tidy(added.of(manifest), results))
        header, rows = list(shown.columns), shown.to_numpy().tolist()
    else:
        header = ["cell", "kNN (%)", "linear probe (%)"]
        found = [(name, added.metrics(record) or {}) for name, record in cells]
        rows = [
            [name, *(f"{metrics[which]:.2f}" if metrics else "–" for which in ("test_knn", "test_linear"))]
            for name, metrics in found
        ]
    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _listed(cells: Sequence[tuple[str, Record]], added: ExtraEvaluation, errors: Mapping[str, str]) -> dict[str, Node]:
    """Return what ``--json`` prints."""

    def listed(name: str, record: Record) -> dict[str, Node]:
        metrics = added.metrics(record) if record.outcome() else None
        state = "evaluated" if metrics else "failed" if name in errors else record.state()
        return {"cell_id": record.cell_id, "name": name, "state": state, "metrics": metrics, "error": errors.get(name)}

    return {
        "preset": added.preset,
        "settings": added.evaluation.final(),
        "dataset": added.other.name if added.other else None,
        "cells": [listed(name, record) for name, record in cells],
    }
