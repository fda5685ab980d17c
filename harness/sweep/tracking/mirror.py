"""Records -> MLflow: one run a cell, written in batches by one writer, with the events' own timestamps.

A process beside the sweep (``python -m harness.sweep.tracking.mirror RESULTS MANIFEST URI``) mirrors until its
standard input closes, once more after that, and ends. Training never waits for it: a dead or slow server costs a sweep
nothing.

Mirroring again adds only what is missing, wherever it was interrupted. The store itself says how far it has come: each
metric's last step, then, written after the points, each run's *mark* (what a glance at its record showed), and
after all runs the experiment's *digest* of all marks. So nothing new costs one request, whatever the number of cells.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

# Read when mlflow is imported: no request holds a pass up or is sent twice, and nothing else is sent.
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

from harness.errors import UserError
from harness.manifest import Expected, Manifest
from harness.store.record import Busy, Record
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking import run_content
from harness.sweep.tracking import sync_state as marked
from harness.sweep.tracking.tracking_uri import embedded, lock_folder

logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what it says of failures is said in one line here

EVERY_SECONDS = 10.0
#: While the store cannot be written, passes become this rare.
RARELY_SECONDS = 300.0
BUSY_SECONDS = 0.5
#: A batch may have 1000 entities; parameters and tags need some of them.
METRICS_PER_BATCH = 900
RUNS_PER_PAGE = 200

CELL, ROLE, MARK, DIGEST = "harness.cell_id", "harness.role", "harness.mark", "harness.digest"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


class StoreFailed(Exception):
    """The store cannot be reached, or not be written; says why in one line."""


@dataclass
class SyncResult:
    """What a pass has added, and why single cells could not be mirrored."""

    runs: int = 0
    points: int = 0
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class _StoredRun:
    """A run as the store has it; ``steps``: of each metric, the last."""

    run_id: str
    status: str = "RUNNING"
    mark: str = ""
    has_parameters: bool = False
    steps: dict[str, int] = field(default_factory=dict)


class Mirror:
    """The MLflow experiment ``<experiment>.<scale>``, created where it does not exist.

    It remembers what it has mirrored, which holds as long as nobody else writes.
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
        # Artifacts of an embedded store lie beside it; a server decides for itself.
        place = (results / "mlartifacts").resolve().as_uri() if embedded(uri) else None
        # The kind opens MLflow's page on training runs rather than on traces of language models.
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            run_content.NOTE: run_content.experiment_note(manifest),
        }
        self.experiment_id = self.client.create_experiment(manifest.name, artifact_location=place, tags=tags)

    def mirror(
        self, only: Collection[str] | None = None, progress: Callable[[str], object] = lambda cell_id: None
    ) -> SyncResult:
        """Bring every run, or those of the cells ``only``, up to date with its record."""
        marks = marked.sync_state(self.results, self.manifest)
        digest = marked.digest(marks)
        added = SyncResult()
        if digest == self._digest:
            marked.remember_complete(self.results, self.manifest, self.uri, digest)
            return added
        mirrored = self._mirrored = self._search() if self._mirrored is None else self._mirrored
        for cell in self.manifest.cells:
            mark = marks[cell.cell_id]
            if mark == _mark_of(mirrored, cell) or (only is not None and cell.cell_id not in only):
                continue
            try:
                self._mirror_cell(cell, mark, mirrored, added)
            except (MlflowException, UserError) as error:
                if isinstance(error, MlflowException) and error.get_http_status_code() not in (400, 404):
                    raise
                added.errors[cell.cell_id] = _cause(error)
            progress(cell.cell_id)
        if all(marks[cell.cell_id] == _mark_of(mirrored, cell) for cell in self.manifest.cells):
            self.client.set_experiment_tag(self.experiment_id, DIGEST, digest)
            self._digest = digest
            marked.remember_complete(self.results, self.manifest, self.uri, digest)
        return added

    def summarize(self, files: Sequence[Path]) -> None:
        """Table, plot and PDF as artifacts of the experiment's summary run."""
        summary = next(self._runs(f"tags.`{ROLE}` = 'summary'"), None)
        if summary is None:
            tags = {**self._tags(), ROLE: "summary"}
            summary = self.client.create_run(self.experiment_id, tags=tags, run_name="summary")
        for path in files:
            self.client.log_artifact(summary.info.run_id, str(path))
        self.client.set_terminated(summary.info.run_id)

    def _mirror_cell(self, cell: Expected, mark: str, mirrored: dict[str, _StoredRun], added: SyncResult) -> None:
        record = Record(self.runs / cell.cell_id)
        points = list(run_content.points(self.manifest, record))
        parameters = run_content.parameters(self.manifest, record)
        if cell.cell_id not in mirrored:
            mirrored[cell.cell_id] = self._create(cell, record)
            added.runs += 1
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
        added.points += len(new)

    def _create(self, cell: Expected, record: Record) -> _StoredRun:
        provenance = record.attempts()[0].provenance()
        run = self.client.create_run(
            self.experiment_id,
            start_time=int(provenance.get("started", 0) * 1000),
            tags={**self._tags(), CELL: cell.cell_id, "harness.environment.revision": provenance.get("revision", "")},
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
        """Tags that change while the cell is computed."""
        attempt = record.attempts()[-1]
        outcome = record.outcome() or attempt.outcome() or {}
        tags = {
            "mlflow.runName": run_content.run_name(self.manifest, cell),
            "arm": run_content.arm_label(self.manifest, cell),
            "harness.attempts": str(attempt.number),
            "harness.state": record.state(),
        }
        for key in ("cause", "error"):
            if key in outcome or attempt.number > 1:  # of an earlier attempt, then, which is overwritten
                tags[f"harness.{key}"] = str(outcome.get(key, ""))
        return tags

    def _tags(self) -> dict[str, str]:
        return {"harness.experiment": self.manifest.experiment, "harness.scale": self.manifest.scale}

    def _search(self) -> dict[str, _StoredRun]:
        """The runs of cells. Where a request to create one arrived although it had timed out, there are two."""
        found: dict[str, _StoredRun] = {}
        for run in self._runs():
            cell_id = run.data.tags.get(CELL)
            if cell_id in found:
                self.client.delete_run(run.info.run_id)
            elif cell_id:
                steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
                mark = run.data.tags.get(MARK, "")
                found[cell_id] = _StoredRun(run.info.run_id, run.info.status, mark, bool(run.data.params), steps)
        return found

    def _runs(self, which: str = "") -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment_id], which, max_results=RUNS_PER_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _mark_of(mirrored: Mapping[str, _StoredRun], cell: Expected) -> str:
    return mirrored[cell.cell_id].mark if cell.cell_id in mirrored else ""


@contextmanager
def explained() -> Iterator[None]:
    """Whatever a store's client raises becomes StoreFailed."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: a database's driver is missing
        raise StoreFailed(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """What the network or the disk said, where one of them did."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    error = next((link for link in reversed(chain) if isinstance(link, OSError)), error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def follow(results: Path, manifest: Path, uri: str, closed: threading.Event, say: Callable[[str], object]) -> bool:
    """Mirror every EVERY_SECONDS until ``closed``, then once more; whether that last pass has mirrored everything."""
    mirror: Mirror | None = None
    number, pause = 0, 0.0
    while True:
        last = closed.wait(pause)
        started, complete = time.monotonic(), False
        try:
            with writer_lock(lock_folder(results, uri)) as mine, explained():
                if mirror is None or mine != number + 1:  # somebody else has written since
                    mirror = Mirror(results, Manifest.load(manifest), uri)
                    say("ready")
                number = mine
                errors = mirror.mirror(progress=say).errors
            _note(*(f"{cell_id}: {error}" for cell_id, error in errors.items()))
            complete = not errors
            pause = max(EVERY_SECONDS, 10 * (time.monotonic() - started))  # at most a tenth of a core
        except Busy:
            time.sleep(BUSY_SECONDS)
            continue
        except Exception as error:  # noqa: BLE001  (whatever happens, records stay; a later pass completes the mirror)
            mirror = None
            _note(str(error) if isinstance(error, StoreFailed) else traceback.format_exc())
            pause = min(max(EVERY_SECONDS, 2 * pause), RARELY_SECONDS)
        if last:
            return complete


def _note(*lines: str) -> None:
    for line in lines:
        print(time.strftime("%F %T"), line, file=sys.stderr, flush=True)


def _let_training_come_first() -> None:
    """Where Linux weighs sessions against each other, a process is nice only within its own."""
    os.nice(19)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")


def main() -> int:
    """0 if everything is mirrored. Says on standard output when the experiment is there (``ready``), then each cell."""
    _let_training_come_first()
    closed = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        closed.set()

    def say(word: str) -> None:
        with suppress(BrokenPipeError):  # a sweep that was killed listens no more
            os.write(1, f"{word}\n".encode())

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with redirect_stdout(sys.stderr):
        return 0 if follow(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], closed, say) else 1


if __name__ == "__main__":
    sys.exit(main())
