"""``harness report``: tables, plot, PDF and verdicts from manifest and records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared.arguments import Overrides, Results, command, tracking_option
from harness.cli.shared.completion import presets
from harness.cli.shared.extra_evaluation import OnDataset, Root, reported
from harness.cli.shared.text import count
from harness.errors import UserError
from harness.manifest import Manifest
from harness.study.report.abstract import tally
from harness.study.text import in_unit, setting_label
from harness.sweep.tracking.tracking_uri import default_uri, public, redacted

#: How long a report waits while another process writes to the store.
BUSY_SECONDS = 60.0


def report(
    experiment: Annotated[
        str, typer.Argument(help="An experiment file, such as experiments/dcl_batchsize.yaml.", show_default=False)
    ] = "",
    overrides: Overrides = None,
    results: Results = Path("results"),
    reports: Annotated[Path, typer.Option(help="Where PDFs go.")] = Path("reports"),
    preset: Annotated[
        str,
        typer.Option(
            help="Report the evaluation that harness evaluate has added under this name.", autocompletion=presets
        ),
    ] = "",
    dataset: OnDataset = "",
    root: Root = "",
    tracking_uri: Annotated[str, tracking_option("The MLflow store that gets table, plot and PDF.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="One document of all claims of all experiments that were swept here.")
    ] = False,
) -> None:
    """Write tables, plots and a PDF, and print the verdicts.

    Cells that have not finished stay visible as "k of n". The only override that applies is scale=NAME. With --all, one
    PDF holds the claims and the report of every experiment. Where the results can only be read, tables and plots lie
    next to the PDF.
    """
    if every or not experiment:
        _report_all(every, experiment, results, reports)
        return
    swept, manifest, added = reported(experiment, overrides, results, preset, dataset, root)
    from harness.study.report.report import write_report  # what is refused need not wait for it

    written = write_report(manifest, results, reports)
    print(written.answer)
    for verdict in written.verdicts:
        measured = " ".join(in_unit(verdict.measured, verdict.unit)) if verdict.measured.n > 1 else ""
        place = f" ({setting_label(verdict.setting)})" if verdict.setting else ""
        print(f"  {verdict.label:15} {verdict.claim.name}{place} {measured}")
    if added and written.unevaluated:
        again = command("evaluate", [experiment, *(overrides or []), *added.options()], results)
        print(f"not evaluated so: {written.unevaluated} of {count(len(manifest.cells))}; next: {again}")
    for sentence in written.damaged:
        print(f"damaged: {sentence}; what depends on this file is left out")
    for exclusion in manifest.exclusions:
        print(f"left out on purpose: {exclusion.where}, {count(exclusion.cells)}: {exclusion.reason}")
    excluded = [written.excluded] if written.excluded else []
    _say_which_characters(written.absent)
    _attach(swept, [*written.files.values(), *excluded], results, tracking_uri)
    for name in ("data", "table", "claims", "plot", "PDF"):
        print(f"{name + ':':9} {written.files[name]}")
    print(f"MLflow:   {public(tracking_uri) or command('ui', [], results)}")


def _report_all(every: bool, experiment: str, results: Path, reports: Path) -> None:
    from harness.study.report.all_experiments import write_reproduction

    if not every or experiment:
        raise UserError(
            "a report is of one experiment, or of all", where="report", allowed="an experiment file, or --all"
        )
    manifests, damaged = Manifest.all_of(results)
    for error in damaged.values():
        print(error, file=sys.stderr)
    if not any(manifest.claims for manifest in manifests):
        what = "no experiment that makes claims was swept here"
        raise UserError(what, where=str(results / "manifests"), next_command="harness sweep experiments/NAME.yaml")
    path, studies, absent = write_reproduction(manifests, results, reports)
    for study in studies:
        print(f"{study.table.manifest.name}: {tally(study.verdicts)}")
    silent = [manifest.name for manifest in manifests if not manifest.claims]
    if silent:
        print(f"no claims, and so not in it: {', '.join(silent)}")
    _say_which_characters(absent)
    print(f"PDF:      {path}")


def _say_which_characters(absent: str) -> None:
    """Print which characters no font has, and how to get one."""
    if absent:
        print(
            f"note: no installed font has {absent}: plots and PDF have codes such as [U+{ord(absent[0]):04X}] instead; "
            "install a font that has them (Debian's fonts-noto-cjk or fonts-noto-core, or a .ttf file in "
            "~/.local/share/fonts) and report again"
        )


def _attach(manifest: Manifest, files: list[Path], results: Path, tracking_uri: str) -> None:
    """Table, plot and PDF go to the summary run; a store that cannot be reached costs a line, not the report."""
    uri = tracking_uri or default_uri(results)
    try:
        from harness.sweep.tracking.mirror import Mirror, SetAside, wait_for_turn

        def attach() -> None:
            with wait_for_turn(results, uri, BUSY_SECONDS):
                Mirror(results, manifest, uri).summarize(files)

        try:
            attach()
        except SetAside as replaced:
            print(f"MLflow:   {replaced}; {replaced.advice}")
            attach()
    except Exception as error:  # noqa: BLE001  (any failure of a tracking server or its client)
        why = redacted(f"{type(error).__name__}: {error}", uri)
        print(f"MLflow:   not reached ({why}); the files below are complete")
