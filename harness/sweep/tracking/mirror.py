"""Copy records to MLflow: one run for each cell, written in batches by one writer, with the times of the events.

A separate process (``python -m harness.sweep.tracking.mirror RESULTS MANIFEST URI``) mirrors the records until its
standard input closes, then once more, and ends. Training never waits for it: a dead or slow server costs a sweep
nothing.

A second pass adds only what is missing, wherever the first was interrupted. The store itself says what it has: the
last step of each metric; for each run its *mark*, the fingerprint of the record, which is written after the points; and
for the experiment the *digest* of all marks, written after all runs. If nothing is new, a pass costs one request,
whatever the number of cells.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# mlflow reads these when it is imported: no request blocks a pass or is sent twice, and no telemetry is sent.
os.environ |= {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    **os.environ,
}

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from harness import json_process
from harness.errors import UserError
from harness.manifest import Expected, Manifest
from harness.store.record import Busy, Record
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking import run_content, sync_state
from harness.sweep.tracking.tracking_uri import embedded, lock_folder

logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # this module logs each failure in one line

#: The time between two passes, and the longest such time while the store cannot be written.
EVERY_SECONDS, RARELY_SECONDS = 10.0, 300.0
#: The time between two tries while another process writes to the store.
BUSY_SECONDS = 0.5
#: MLflow takes 1000 entities in a batch; parameters and tags need some of them.
METRICS_PER_BATCH = 900
RUNS_PER_PAGE = 200

CELL, ROLE, MARK, DIGEST = "harness.cell_id", "harness.role", "harness.mark", "harness.digest"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


class StoreFailed(Exception):
    """The store cannot be reached or not be written; the message says why in one line."""


@dataclass
class SyncResult:
    """What a pass has added, and why some cells could not be mirrored."""

    runs: int = 0
    points: int = 0
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class _StoredRun:
    """A run as it is in the store; ``steps`` has the last step of each metric."""

    run_id: str
    status: str = "RUNNING"
    mark: str = ""
    has_parameters: bool = False
    steps: dict[str, int] = field(default_factory=dict)


class Mirror:
    """The MLflow experiment ``<experiment>.<scale>``, created where it does not exist.

    It remembers what it has mirrored. That stays correct as long as no other process writes to the store.
    """

    def __init__(self, results: Path, manifest: Manifest, uri: str) -> None:
        self.results, self.uri = results, uri
        self.runs = results / "runs"
        self.manifest = manifest
        self.client = MlflowClient(tracking_uri=uri)
        self._mirrored: dict[str, _StoredRun] | None = None
        existing = self.client.get_experiment_by_name(manifest.name)
        if existing:
            self.experiment_id = existing.experiment_id
            self._digest = existing.tags.get(DIGEST)
            if run_content.NOTE not in existing.tags:
                self.client.set_experiment_tag(
                    self.experiment_id, run_content.NOTE, run_content.experiment_note(manifest)
                )
            return
        self._digest = None
        # The artifacts of an embedded store go next to it; a server decides where its artifacts go.
        artifacts = (results / "mlartifacts").resolve().as_uri() if embedded(uri) else None
        # With this kind, MLflow opens the page of training runs and not the traces of language models.
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            run_content.NOTE: run_content.experiment_note(manifest),
        }
        self.experiment_id = self.client.create_experiment(manifest.name, artifact_location=artifacts, tags=tags)

    def mirror(
        self, only: Collection[str] | None = None, progress: Callable[[str], object] = lambda cell_id: None
    ) -> SyncResult:
        """Bring all runs, or those of the cells ``only``, up to date with their records."""
        marks = sync_state.sync_state(self.results, self.manifest)
        digest = sync_state.digest(marks)
        result = SyncResult()
        if digest == self._digest:
            sync_state.remember_complete(self.results, self.manifest, self.uri, digest)
            return result
        mirrored = self._mirrored = self._search() if self._mirrored is None else self._mirrored
        for cell in self.manifest.cells:
            mark = marks[cell.cell_id]
            if mark == _mark_of(mirrored, cell) or (only is not None and cell.cell_id not in only):
                continue
            try:
                self._mirror_cell(cell, mark, mirrored, result)
            except (MlflowException, UserError) as error:
                if isinstance(error, MlflowException) and error.get_http_status_code() not in (400, 404):
                    raise
                result.errors[cell.cell_id] = _cause(error)
            progress(cell.cell_id)
        if all(marks[cell.cell_id] == _mark_of(mirrored, cell) for cell in self.manifest.cells):
            self.client.set_experiment_tag(self.experiment_id, DIGEST, digest)
            self._digest = digest
            sync_state.remember_complete(self.results, self.manifest, self.uri, digest)
        return result

    def summarize(self, files: Sequence[Path]) -> None:
        """Store these files, such as the report, as artifacts of the experiment's summary run."""
        summary = next(self._runs(f"tags.`{ROLE}` = 'summary'"), None)
        if summary is None:
            tags = {**self._tags(), ROLE: "summary"}
            summary = self.client.create_run(self.experiment_id, tags=tags, run_name="summary")
        for path in files:
            self.client.log_artifact(summary.info.run_id, str(path))
        self.client.set_terminated(summary.info.run_id)

    def _mirror_cell(self, cell: Expected, mark: str, mirrored: dict[str, _StoredRun], result: SyncResult) -> None:
        record = Record(self.runs / cell.cell_id)
        points = list(run_content.points(self.manifest, record))
        parameters = run_content.parameters(self.manifest, record)
        if cell.cell_id not in mirrored:
            mirrored[cell.cell_id] = self._create(cell, record)
            result.runs += 1
        run = mirrored[cell.cell_id]
        status = STATUS.get(mark.partition(" ")[0], "KILLED")
        if status != run.status:
            self._set_status(run, status, max((point.milliseconds for point in points), default=0))
        new = [point for point in points if point.step > run.steps.get(point.metric, -1)]
        metrics = [Metric(point.metric, point.value, point.milliseconds, point.step) for point in new]
        while len(metrics) > METRICS_PER_BATCH:
            self.client.log_batch(run.run_id, metrics=metrics[:METRICS_PER_BATCH], synchronous=True)
            del metrics[:METRICS_PER_BATCH]
        self.client.log_batch(
            run.run_id,
            metrics=metrics,
            params=[] if run.has_parameters else [Param(key, value) for key, value in parameters.items()],
            tags=[RunTag(key, value) for key, value in {**self._changing(cell, record), MARK: mark}.items()],
            synchronous=True,
        )
        run.mark, run.has_parameters = mark, True
        run.steps |= {point.metric: point.step for point in new}
        result.points += len(new)

    def _create(self, cell: Expected, record: Record) -> _StoredRun:
        provenance = record.attempts()[0].provenance()
        revision = provenance.environment.revision or ""
        run = self.client.create_run(
            self.experiment_id,
            start_time=int((provenance.started_at or 0) * 1000),
            tags={**self._tags(), CELL: cell.cell_id, "harness.revision": revision},
            run_name=run_content.run_name(self.manifest, cell),
        )
        return _StoredRun(run.info.run_id)

    def _set_status(self, run: _StoredRun, status: str, ended: int) -> None:
        if status == "RUNNING":
            self.client.update_run(run.run_id, status)
        else:
            self.client.set_terminated(run.run_id, status, end_time=ended or None)
        run.status = status

    def _changing(self, cell: Expected, record: Record) -> dict[str, str]:
        """Return the tags that change while the cell is computed."""
        attempt = record.attempts()[-1]
        outcome = record.outcome() or attempt.outcome()
        tags = {
            "mlflow.runName": run_content.run_name(self.manifest, cell),
            "arm": run_content.arm_label(self.manifest, cell),
            "harness.attempts": str(attempt.number),
            "harness.state": record.state(),
        }
        for key in ("cause", "error"):
            value = getattr(outcome, key, "")
            if value or attempt.number > 1:  # overwrites the value of an earlier attempt
                tags[f"harness.{key}"] = value
        return tags

    def _tags(self) -> dict[str, str]:
        return {"harness.experiment": self.manifest.experiment, "harness.scale": self.manifest.scale}

    def _search(self) -> dict[str, _StoredRun]:
        """Return the stored runs by cell.

        A cell has two runs if a request to create one timed out and arrived all the same; one of them is deleted.
        """
        stored: dict[str, _StoredRun] = {}
        for run in self._runs():
            cell_id = run.data.tags.get(CELL)
            if cell_id in stored:
                self.client.delete_run(run.info.run_id)
            elif cell_id:
                steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
                mark = run.data.tags.get(MARK, "")
                stored[cell_id] = _StoredRun(run.info.run_id, run.info.status, mark, bool(run.data.params), steps)
        return stored

    def _runs(self, filter_string: str = "") -> Iterator[Run]:
        """Yield the experiment's runs that pass MLflow's filter, page by page."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, max_results=RUNS_PER_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def _mark_of(mirrored: Mapping[str, _StoredRun], cell: Expected) -> str:
    return mirrored[cell.cell_id].mark if cell.cell_id in mirrored else ""


@contextmanager
def explained() -> Iterator[None]:
    """Raise StoreFailed for every error of the store's client."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: a database's driver is missing
        raise StoreFailed(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """Return the first line of the error, or of the network's or disk's error that caused it."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    error = next((link for link in reversed(chain) if isinstance(link, OSError)), error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def follow(results: Path, manifest: Path, uri: str, closed: threading.Event, say: Callable[[str], object]) -> bool:
    """Mirror every EVERY_SECONDS until ``closed``, then once more; return whether the last pass was complete."""
    mirror: Mirror | None = None
    number, pause = 0, 0.0
    while True:
        is_last = closed.wait(pause)
        started, complete = time.monotonic(), False
        try:
            with writer_lock(lock_folder(results, uri)) as turn, explained():
                if mirror is None or turn != number + 1:  # another process has written since
                    mirror = Mirror(results, Manifest.load(manifest), uri)
                    say("ready")
                number = turn
                errors = mirror.mirror(progress=say).errors
            _log(*(f"{cell_id}: {error}" for cell_id, error in errors.items()))
            complete = not errors
            pause = max(EVERY_SECONDS, 10 * (time.monotonic() - started))  # uses at most a tenth of a core
        except Busy:
            time.sleep(BUSY_SECONDS)
            continue
        except Exception as error:  # noqa: BLE001  (a later pass completes the mirror from the records)
            mirror = None
            _log(str(error) if isinstance(error, StoreFailed) else traceback.format_exc())
            pause = min(max(EVERY_SECONDS, 2 * pause), RARELY_SECONDS)
        if is_last:
            return complete


def _log(*lines: str) -> None:
    for line in lines:
        print(time.strftime("%F %T"), line, file=sys.stderr, flush=True)


def _let_training_come_first() -> None:
    """Give this process the lowest priority.

    Linux may weigh sessions against each other (autogroup); then ``nice`` counts only within the process's session.
    """
    os.nice(19)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")


def main() -> int:
    """Mirror until standard input closes; return 0 if everything is mirrored.

    Prints ``ready`` when the experiment exists in the store, then the id of each cell that it has mirrored.
    """
    _let_training_come_first()
    closed = threading.Event()

    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    with json_process.answers() as answer:

        def say(line: str) -> None:
            with suppress(BrokenPipeError):  # the sweep was killed and does not read any more
                answer(line)

        return 0 if follow(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], closed, say) else 1


if __name__ == "__main__":
    sys.exit(main())
