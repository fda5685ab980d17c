"""``harness export-encoder``: a trained encoder for use elsewhere, with an example that loads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer
from safetensors import safe_open

from harness.cli.shared.arguments import Results
from harness.cli.shared.selection import record_of
from harness.errors import UserError
from harness.store.record import ENCODER_NAME
from harness.study.report.encoder_card import EncoderImages, example, readme


def export_encoder(
    cell: Annotated[
        str,
        typer.Argument(
            help="A cell id, or its beginning of at least 6 digits; the reports list them.", show_default=False
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="A new folder; by default encoder-<cell id>.", show_default=False)
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Write a trained encoder for use elsewhere.

    A new folder gets the weights, a description of them, and a program that loads them.
    """
    record = record_of(cell, results)
    weights, folder = record.whole_encoder(), to or Path(f"encoder-{record.cell_id}")
    if weights is None:
        what = "its encoder is not here" if record.outcome() else "the cell has not finished"
        raise UserError(what, where=str(record.path), next_command="harness status")
    images = encoder_images(weights)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        what = "the folder exists, and nothing is overwritten"
        raise UserError(what, where=str(folder), allowed="--to NEW_FOLDER") from None
    shutil.copyfile(weights, folder / ENCODER_NAME)
    shutil.copyfile(record.path / "cell.json", folder / "cell.json")
    (folder / "README.md").write_text(readme(record, images), encoding="utf-8")
    (folder / "load_encoder.py").write_text(example(record.cell(), images.channels), encoding="utf-8")
    print(f"{folder}: {ENCODER_NAME}, cell.json, README.md, load_encoder.py")
    print(f"try:      python {folder / 'load_encoder.py'}")


def encoder_images(weights: Path) -> EncoderImages:
    """Return what the file of an encoder says of its images."""
    with safe_open(weights, framework="numpy") as file:
        about = json.loads(file.metadata()["harness"])
    return EncoderImages(about["channels"], about["mean"], about["std"])
