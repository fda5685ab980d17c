"""Records -> MLflow: one run a cell, written in batches by one writer, with the events' own timestamps.

A process beside the sweep (``python -m harness.sweep.mirror RESULTS NAME URI``) mirrors until its standard input
closes, once more after that, and ends. Training never waits for it: a dead or slow server costs a sweep nothing.
Mirroring again adds only what is missing; a run knows by its tag how far it has come.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from harness.cell import get, paths
from harness.manifest import Expected, Manifest
from harness.record import Json, Record

EVERY_SECONDS = 10.0
METRICS_PER_BATCH = 1000  # the tracking server's limit

CELL, MIRRORED, ROLE = "harness.cell_id", "harness.mirrored_step", "harness.role"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Mirror:
    """The MLflow experiment ``<experiment>.<scale>``, created where it does not exist."""

    def __init__(self, results: Path, manifest: Manifest, uri: str) -> None:
        self.runs = results / "runs"
        self.manifest = manifest
        self.client = MlflowClient(tracking_uri=uri)
        existing = self.client.get_experiment_by_name(manifest.name)
        # Artifacts of an embedded store lie beside it; a server decides for itself.
        place = (results / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
        if existing:
            self.experiment_id = existing.experiment_id
        else:
            # The kind opens MLflow's page on training runs rather than on traces of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            self.experiment_id = self.client.create_experiment(manifest.name, artifact_location=place, tags=kind)

    def mirror(self) -> None:
        """Bring every run up to date with its record."""
        known = {run.data.tags.get(CELL): run for run in self._all_runs()}
        for expected in self.manifest.cells:
            record = Record(self.runs / expected.cell_id)
            if record.attempts():
                self._mirror_cell(expected, record, record.events(), known.get(expected.cell_id))

    def summarize(self, files: Sequence[Path]) -> None:
        """Table, plot and PDF as artifacts of the experiment's summary run."""
        summary = next((run for run in self._all_runs() if run.data.tags.get(ROLE) == "summary"), None)
        if summary is None:
            tags = {**self._tags(), ROLE: "summary"}
            summary = self.client.create_run(self.experiment_id, tags=tags, run_name="summary")
        for path in files:
            self.client.log_artifact(summary.info.run_id, str(path))
        self.client.set_terminated(summary.info.run_id)

    def _mirror_cell(self, expected: Expected, record: Record, events: list[Json], run: Run | None) -> None:
        attempt = record.attempts()[-1]
        outcome = record.outcome() or attempt.outcome()
        if run is None:
            run = self._create(expected, record)
        status = STATUS[outcome["state"]] if outcome else "RUNNING" if record.state() == "running" else "KILLED"
        mirrored = int(run.data.tags.get(MIRRORED, -1))
        new = [event for event in events if event["step"] > mirrored]
        if not new and run.info.status == status:
            return
        run_id = run.info.run_id
        last = events[-1] if events else {"step": 0, "time": attempt.provenance().get("started", 0)}
        metrics = list(_metrics(new))
        if outcome and outcome["state"] == "finished":
            at = int(last["time"] * 1000)
            judged = record.metrics(self.manifest.evaluation) or {}
            metrics += [Metric(name, value, at, last["step"]) for name, value in judged.items()]
        for start in range(0, len(metrics), METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
        tags = {MIRRORED: str(last["step"]), "harness.attempts": str(attempt.number), "harness.state": record.state()}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, end_time=int(last["time"] * 1000))

    def _create(self, expected: Expected, record: Record) -> Run:
        cell, provenance = record.cell(), record.attempts()[0].provenance()
        # MLflow's tables show some twenty characters of a name: the values of what varies.
        name = " ".join(
            ("seed " if path == "seed" else "") + str(expected.axes[path]) for path in self.manifest.varying
        )
        run = self.client.create_run(
            self.experiment_id,
            start_time=int(provenance.get("started", 0) * 1000),
            tags={**self._tags(), CELL: expected.cell_id, "harness.revision": provenance.get("revision", "")},
            run_name=name or expected.cell_id,
        )
        parameters = {path: value for path in paths() if (value := get(cell, path)) is not None}
        settings = self.manifest.evaluation.items()
        parameters |= {f"evaluate.{name}": value for name, value in settings if value is not None}
        parameters["dataset.fingerprint"] = cell.dataset.fingerprint
        self.client.log_batch(run.info.run_id, params=[Param(path, str(value)) for path, value in parameters.items()])
        return run

    def _tags(self) -> dict[str, str]:
        return {"harness.experiment": self.manifest.experiment, "harness.scale": self.manifest.scale}

    def _all_runs(self) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment_id], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _metrics(events: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    for event in events:
        for name, value in event["metrics"].items():
            yield Metric(name, value, int(event["time"] * 1000), event["step"])


def main() -> int:
    """Mirror every EVERY_SECONDS until standard input closes, then once more; 1 if that last pass failed."""
    os.nice(10)  # training comes first
    results, name, uri = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    closed = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    mirror: Mirror | None = None
    while True:
        last = closed.wait(EVERY_SECONDS if mirror else 0)
        try:
            # One writer: sweeps of one folder take turns, else each would create the runs that the other has not yet.
            with (results / "mlflow-mirror.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                mirror = mirror or Mirror(results, Manifest.read(results, name), uri)
                mirror.mirror()
        except Exception:  # noqa: BLE001  (whatever a server does, records stay; a later pass completes the mirror)
            traceback.print_exc()
            if last:
                return 1
        if last:
            return 0


if __name__ == "__main__":
    sys.exit(main())
