"""``harness losses`` and ``harness check-loss``: the catalogue, and a user's own loss held against its properties."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.cli.shared import completion
from harness.cli.shared.arguments import Plugin
from harness.errors import UserError, nearest
from harness.plugins import describe, register


def losses(
    name: Annotated[
        str, typer.Argument(help="A loss, to describe it.", show_default=False, autocompletion=completion.losses)
    ] = "",
    plugin: Plugin = None,
) -> None:
    """List the losses, or describe one of them.

    The list shows each loss's properties; with NAME, its equation, its parameters and the losses that it equals.
    """
    register(plugin or [])
    if not name:
        _table()
        return
    if name not in LOSSES:
        raise UserError(f"no loss '{name}'{nearest(name, LOSSES)}", allowed=", ".join(LOSSES))
    _describe(name)


def _table() -> None:
    columns = ("loss", "paper", "negatives", "unit norm", "symmetric", "ranks share", "parameters")
    table = Table(*columns, box=None, pad_edge=False)
    for name, entry in LOSSES.items():
        properties = ("yes" if entry.unit_norm else "no", "yes" if entry.symmetric else "no", entry.distributed)
        table.add_row(name, entry.paper.partition(",")[0], entry.negatives, *properties, ", ".join(entry.parameters))
    _console().print(table)
    methods = ", ".join(name for name, entry in METHODS.items() if not entry.every_loss)
    print(f"\nEvery loss goes with the method simclr; those whose negatives are pairs also with {methods}.")
    print("Details of one loss: harness losses NAME")


def _console() -> Console:
    """Return a console as wide as the terminal, or wide enough for these tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def _describe(name: str) -> None:
    entry = LOSSES[name]
    goes_with = [method for method, about in METHODS.items() if about.every_loss or entry.negatives == "pairs"]
    print(f"{entry.label}  ({name}, version {entry.version})")
    print(f"  {entry.paper}\n")
    print(f"  {entry.equation}")
    print("  (p: the logit of the positive, n: those of the negatives, LSE: log-sum-exp)\n")
    lines = {
        "reduction": entry.reduction,
        "negatives": "chosen by the method" if entry.negatives == "pairs" else entry.negatives,
        "embeddings": "L2-normalised" if entry.unit_norm else "of any norm",
        "symmetric": "yes" if entry.symmetric else "no: swapping the views changes it",
        "ranks": "may share the anchors" if entry.distributed == "anchors" else "need the whole batch's statistics",
        "methods": ", ".join(goes_with),
    }
    for key, value in lines.items():
        print(f"  {key:12} {value}")
    for key, known in entry.parameters.items():
        print(f"  {'parameter':12} {key}: {known}, by default {str(known.default).lower()}")
    for same in entry.identical:
        print(f"  {'identical':12} to {same}")


def check_loss(
    loss: Annotated[
        str,
        typer.Argument(
            help="FILE.py:FUNCTION, or a loss of the catalogue.", show_default=False, autocompletion=completion.losses
        ),
    ],
) -> None:
    """Test whether a loss has the properties it must have.

    It tests permutation of the batch, exchange of the views, scale of the embeddings, gradient (of equal embeddings,
    too), bf16, division among ranks, and shapes; of your own loss also what it draws and keeps from step to step, and
    which settings it changes. Exit code 1: a required property does not hold.
    """
    file, _, name = loss.rpartition(":")
    described = describe(Path(file)) if file else None
    if described and name in described.no_losses:
        raise described.no_losses[name]
    register([file] if file else [])
    known = described.losses if described else LOSSES
    if name not in known:
        allowed = ", ".join(known) + ("" if file else ", or FILE.py:FUNCTION")
        raise UserError(f"no loss '{name}'{nearest(name, known)}", where=loss, allowed=allowed)
    if state := known[name].state:
        raise UserError(f"{name} keeps {state.name} between steps, which this check does not", where=loss)
    from harness.ssl.losses.properties import check

    findings = list(check(name))
    table = Table("", "property", "first counter-example", box=None, pad_edge=False)
    for finding in findings:
        mark = "ok" if finding.holds else "FAILS" if finding.required else "no"
        table.add_row(mark, finding.name, finding.counter_example)
    _console().print(table)
    if any(finding.required and not finding.holds for finding in findings):
        raise typer.Exit(1)
    print(f"Use it: harness sweep EXPERIMENT {f'--plugin {file} ' if file else ''}'axes.loss=[infonce,{name}]'")
