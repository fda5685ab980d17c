"""``harness verify``: a verdict per claim, for people and for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.shared.arguments import Experiment, Overrides, Results, command
from harness.cli.shared.completion import presets
from harness.cli.shared.extra_evaluation import OnDataset, Root, reported
from harness.cli.shared.text import count
from harness.errors import UserError
from harness.study.claims.verdict_json import as_json as plain
from harness.study.claims.verdicts import Verdict, judge
from harness.study.frame import tidy
from harness.study.report.abstract import tally
from harness.study.text import in_unit, percent, setting_label, upper


def verify(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    preset: Annotated[
        str,
        typer.Option(
            help="Judge the evaluation that harness evaluate has added under this name.", autocompletion=presets
        ),
    ] = "",
    dataset: OnDataset = "",
    root: Root = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts, intervals and cells as JSON.")] = False,
) -> None:
    """Judge the claims of an experiment; write nothing.

    Exit code 0: every claim is REPRODUCED in every setting; 1: at least one is not. The only override that applies is
    scale=NAME.
    """
    _, manifest, added = reported(experiment, overrides, results, preset, dataset, root)
    if not manifest.claims:
        raise UserError(f"{manifest.name} makes no claims", where=experiment, allowed="claims: (docs/experiments.md)")
    table = tidy(manifest, results)
    if added and (left := int(table.frame["test_knn"].isna().sum())):
        again = command("evaluate", [experiment, *(overrides or []), *added.options()], results)
        print(f"not evaluated so: {count(left)} of {len(table.frame)}; next: {again}", file=sys.stderr)
    judged = judge(table)
    if as_json:
        print(json.dumps(plain(judged), indent=1))
    else:
        _print(judged.verdicts)
    if any(verdict.label != "REPRODUCED" for verdict in judged.verdicts):
        raise typer.Exit(1)


def _print(verdicts: list[Verdict]) -> None:
    """Print a table, and below it a sentence for each verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "claim", "measured", "interval", "level", "seeds"):
        table.add_column(name, no_wrap=name in ("verdict", "interval"), overflow="fold")
    for verdict in verdicts:
        measured = verdict.measured
        name = f"{verdict.claim.name} ({setting_label(verdict.setting)})" if verdict.setting else verdict.claim.name
        known = [*in_unit(measured, verdict.unit), percent(verdict.level)] if measured.n > 1 else ["–", "–", "–"]
        table.add_row(verdict.label, name, *known, str(measured.n or "–"))
    console = Console(highlight=False)
    console.print(table)
    for verdict in verdicts:
        name = f"{verdict.claim.name}{f' ({setting_label(verdict.setting)})' if verdict.setting else ''}"
        console.print(f"\n[bold]{name}[/bold]: {verdict.claim.says}\n  {upper(verdict.why)}.")
        if verdict.label not in ("REPRODUCED", "CONTRADICTED"):
            console.print(f"  What would settle it: {verdict.next_step}.")
    console.print(f"\n{tally(verdicts)}")
