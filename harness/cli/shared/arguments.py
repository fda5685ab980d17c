"""Arguments that several verbs share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[
    str, typer.Argument(help="An experiment file, such as experiments/dcl_batchsize.yaml.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hydra overrides: scale=laptop dataset=fashion_mnist 'axes.batch_size=[32,256]' optimizer.lr=0.1",
        show_default=False,
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file of your own losses, to be named on the axis loss; may be repeated."),
]
TrackingUri = Annotated[str, typer.Option(help="An MLflow tracking URI; by default sqlite in the results folder.")]
RerunStale = Annotated[
    bool,
    typer.Option("--rerun-stale", help="Treat stale cells, trained by older code of a component, as missing."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Results = Annotated[Path, typer.Option(help="The folder of records, manifests and tables.")]


def command(
    verb: str, words: Sequence[str], results: Path, tracking_uri: str = "", plugins: Sequence[Path] = ()
) -> str:
    """The command to type next, quoted for a shell."""
    folder = [] if results == Path("results") else ["--results", str(results)]
    store = ["--tracking-uri", tracking_uri] if tracking_uri else []
    own = [word for file in plugins for word in ("--plugin", str(file))]
    return shlex.join(["harness", verb, *words, *folder, *store, *own])
