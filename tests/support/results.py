"""A results folder without training: four declared cells, and whatever a test makes of their records."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from harness.cell import Cell, Loss, get
from harness.cli.main import app
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.manifest import Expected, Manifest
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Attempt, Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger, Policy

EVALUATION = Evaluation(knn_k=20, knn_temperature=0.07, penalty=1e-4)
METRICS = {"test_knn": 50.0, "test_linear": 51.0, "init_knn": 30.0, "init_linear": 31.0}
ENVIRONMENT = ComputeEnvironment(revision="0" * 40, dirty=False, hardware="a processor", threads=1)
OUTCOME = Outcome(
    "finished",
    metrics=METRICS,
    evaluation=EVALUATION,
    steps=20,
    peak_lr=0.1,
    dropped=13,
    train_seconds=50.0,
    seconds=60.0,
)


class Results:
    """``cells``: dcl and infonce, each with seeds 0 and 1, of the experiment ``tiny`` at the scale ``demo``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.cells = [Cell(loss=Loss(name), epochs=4, seed=seed) for name in ("dcl", "infonce") for seed in (0, 1)]
        self.declare("tiny", self.cells)

    def declare(self, experiment: str, cells: list[Cell], **more: Any) -> Manifest:
        losses = list(dict.fromkeys(cell.loss.name for cell in cells))
        stated: dict[str, Any] = {"axes": {"loss.name": losses, "batch_size": [256], "seed": [0, 1]}, **more}
        manifest = Manifest(
            experiment=experiment,
            scale="demo",
            title="A tiny study",
            question="Is it?",
            caveat="",
            comparable=True,
            dataset="digits",
            cells=[Expected(cell.cell_id, {path: get(cell, path) for path in stated["axes"]}) for cell in cells],
            claims=[],
            evaluation=EVALUATION,
            settings=asdict(cells[0]),
            overrides=[],
            revision="0" * 40,
            **stated,
        )
        manifest.write(self.path)
        return manifest

    def record(self, cell: Cell) -> Record:
        return Record.prepare(self.path / "runs", cell)

    def begin(self, cell: Cell) -> Attempt:
        attempt = self.record(cell).begin(Provenance(environment=ENVIRONMENT))
        attempt.log_event(0, {"val_knn": 30.0}, epoch=0)
        (attempt.path / "stdout.log").write_text("said\n")
        (attempt.path / "stderr.log").write_text("warned\n")
        return attempt

    def finish_with_checksums(self, cell: Cell) -> Attempt:
        """Finish a cell whose outcome has the checksums of its curve and of its weights."""
        attempt = self.begin(cell)
        attempt.log_event(20, {"val_knn": 40.0, "loss": 1.0}, epoch=4)
        attempt.encoder.write_bytes(b"w" * 1000)
        attempt.end(replace(OUTCOME, files=attempt.checksums()))
        return attempt

    def finish(self, cell: Cell) -> Attempt:
        attempt = self.begin(cell)
        attempt.log_event(20, {"val_knn": 40.0, "loss": 1.0}, epoch=4)
        for name in ("checkpoint.pt", "checkpoint.previous.pt", "encoder.safetensors"):
            (attempt.path / name).write_bytes(b"x" * 2**20)
        attempt.end(OUTCOME)
        return attempt

    def fail(self, cell: Cell, error: str = "the loss is not finite", cause: str = "diverged") -> Attempt:
        attempt = self.begin(cell)
        with zipfile.ZipFile(attempt.checkpoint, "w") as archive:  # as torch writes it
            archive.writestr("data", b"x" * 2**20)
        attempt.fail(error, cause)
        return attempt

    def queue(self, cell: Cell) -> Ledger:
        ledger = Ledger.open(self.path, "tiny.demo", Policy())
        self.record(cell).submit(Submission(sweep=ledger.path.name))
        return ledger


def another_seed(cell: Cell) -> Cell:
    return replace(cell, seed=9)


def harness(*arguments: str, results: Path, answer: str = "") -> tuple[int, str]:
    """The exit code and what was printed."""
    done = CliRunner().invoke(app, [*arguments, "--results", str(results)], input=answer)
    if isinstance(done.exception, UserError):
        return 2, f"{done.stdout}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def as_json(*arguments: str, results: Path) -> Any:
    code, printed = harness(*arguments, "--json", results=results)
    assert code == 0, printed
    return json.loads(printed)


def with_three_finished(folder: Path) -> Results:
    """Return results of which three cells have finished and vouch for their files."""
    made = Results(folder)
    for cell in made.cells[:3]:
        made.finish_with_checksums(cell)
    return made
