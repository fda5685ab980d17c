"""``harness report``: tables, plot, PDF and verdicts from manifest and records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import Experiment, Overrides, Results, command
from harness.cli.evaluate import OnDataset, Root, asked
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.manifest import Manifest


def report(
    experiment: Experiment,
    overrides: Overrides = None,
    results: Results = Path("results"),
    reports: Annotated[Path, typer.Option(help="Where PDFs go.")] = Path("reports"),
    preset: Annotated[
        str, typer.Option(help="Report the evaluation that harness evaluate has added under this name.")
    ] = "",
    dataset: OnDataset = "",
    root: Root = "",
    tracking_uri: Annotated[str, typer.Option(help="The MLflow store that gets table, plot and PDF.")] = "",
) -> None:
    """Write the results of what was swept: CSV, tables, plot and PDF, and print the verdicts.

    Missing cells stay visible as "k of n". Of the overrides only scale=NAME applies.
    """
    from harness.cli.summary import count
    from harness.cli.target import manifest_name
    from harness.manifest import Manifest
    from harness.study.pdf import bounds
    from harness.study.report import write_report

    swept = Manifest.read(results, manifest_name(experiment, overrides or []))
    if dataset and not preset:
        raise UserError("an added evaluation is found by its preset", where="--dataset", allowed="--preset NAME")
    added = asked(preset, dataset, root) if preset else None
    manifest = added.of(swept) if added else swept
    written = write_report(manifest, results, reports)
    print(written.answer)
    for verdict in written.verdicts:
        measured = f"{verdict.measured.mean:+.2f} {bounds(verdict.measured)}" if verdict.measured.n > 1 else ""
        setting = " ".join(f"{name}={value}" for name, value in verdict.setting.items())
        print(f"  {verdict.word:15} {verdict.claim.name} ({setting}) {measured}")
    if added and written.unevaluated:
        again = command("evaluate", [experiment, *(overrides or []), *added.options()], results)
        print(f"not evaluated so: {written.unevaluated} of {count(len(manifest.cells))}; next: {again}")
    for exclusion in manifest.exclusions:
        print(f"left out on purpose: {exclusion.where}, {count(exclusion.cells)}: {exclusion.reason}")
    _attach(swept, [*written.files, *([written.excluded] if written.excluded else [])], results, tracking_uri)
    names = ("data", "table", "", "", "plot", "", "PDF")
    for name, path in zip(names, written.files, strict=True):
        if name:
            print(f"{name + ':':9} {path}")
    print(f"MLflow:   {tracking_uri or command('ui', [], results)}")


def _attach(manifest: Manifest, files: list[Path], results: Path, tracking_uri: str) -> None:
    """Table, plot and PDF go to the summary run; a store that cannot be reached costs a line, not the report."""
    from harness.sweep.uri import default_uri

    try:
        from harness.sweep.mirror import Mirror

        Mirror(results, manifest, tracking_uri or default_uri(results)).summarize(files)
    except Exception as error:  # noqa: BLE001  (any failure of a tracking server or its client)
        print(f"MLflow:   not reached ({type(error).__name__}: {error}); the files below are complete")
