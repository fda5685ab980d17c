"""Arguments that several verbs share."""

from __future__ import annotations

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
Results = Annotated[Path, typer.Option(help="Where records, manifests and tables lie.")]


def short_names(axes: dict[str, object] | object, names: list[str]) -> str:
    """``loss=dcl batch_size=32 seed=0``: the axes that differ, by their short names."""
    assert isinstance(axes, dict)
    return " ".join(f"{path.removesuffix('.name').rsplit('.', 1)[-1]}={axes[path]}" for path in names)
