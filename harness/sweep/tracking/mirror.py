"""Copy records to MLflow: one run for each cell, written in batches by one writer, with the times of the events.

A separate process (``python -m harness.sweep.tracking.mirror RESULTS MANIFEST URI``) mirrors the records until its
standard input closes, then once more, and ends. Training never waits for it: a dead or slow server costs a sweep
nothing.

A second pass adds only what is missing, wherever the first was interrupted. The store itself says what it has: the
last step of each metric; for each run its *mark*, the fingerprint of the record, which is written after the points; and
for the experiment the *digest* of all marks, written after all runs. If nothing is new, a sweep's pass costs one
request, whatever the number of cells; ``harness sync`` compares all runs.

Every process that opens a store does so within ``write_turn``: there is one writer at a time, an embedded store is
whole or replaced, and what a library prints does not show the password of a URI.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast
from urllib.parse import unquote, urlsplit

# mlflow reads these when it is imported: no request blocks a pass or is sent twice, and no telemetry is sent.
os.environ |= {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    **os.environ,
}

from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from harness import json_process
from harness.errors import UserError
from harness.manifest import Expected, Manifest
from harness.store.record import Busy, Record
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking import embedded_store, run_content, sync_state
from harness.sweep.tracking.mirror_process import NOTE
from harness.sweep.tracking.sync_state import SyncResult
from harness.sweep.tracking.tracking_uri import (
    ARTIFACTS,
    default_uri,
    embedded,
    lock_folder,
    public,
    redacted,
    with_secret,
)

logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # this module logs each failure in one line

#: The time between two passes, and the longest such time while the store cannot be written.
EVERY_SECONDS, RARELY_SECONDS = 10.0, 300.0
#: The time between two tries while another process writes to the store.
BUSY_SECONDS = 0.5
#: MLflow takes 1000 entities in a batch; parameters and tags need some of them.
METRICS_PER_BATCH = 900
RUNS_PER_PAGE = 200

CELL, ROLE, MARK, DIGEST = "harness.cell_id", "harness.role", "harness.mark", "harness.digest"
#: What reading a record raises if one of its files is damaged.
UNREADABLE = (UserError, OSError, ValueError, KeyError, TypeError, AttributeError)
STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


class StoreFailed(Exception):
    """The store cannot be reached or not be written; the message says why in one line, and ``advice`` what to do."""

    def __init__(self, why: str, advice: str = "try this command again later") -> None:
        super().__init__(why)
        self.advice = advice


class SetAside(StoreFailed):
    """An embedded store was damaged and has been renamed: whoever tries again gets a new one, which is empty."""


@dataclass
class _StoredRun:
    """A run as it is in the store; ``steps`` has the last step of each metric."""

    run_id: str
    status: str = "RUNNING"
    mark: str = ""
    has_parameters: bool = False
    steps: dict[str, int] = field(default_factory=dict)

    def fullness(self) -> tuple[bool, int]:
        """Return what makes one of two runs of a cell the better one to keep."""
        return bool(self.mark), sum(self.steps.values())


class Mirror:
    """The MLflow experiment ``<experiment>.<scale>``, created where it does not exist.

    It remembers what it has mirrored. That stays correct as long as no other process writes to the store.
    """

    def __init__(self, results: Path, manifest: Manifest, uri: str) -> None:
        self.results, self.uri = results, uri
        self.runs = results / "runs"
        self.manifest = manifest
        if (store := embedded(uri)) is not None:
            embedded_store.prepare(store)
        self.client = MlflowClient(tracking_uri=uri)
        self._mirrored: dict[str, _StoredRun] | None = None
        self._notes: list[str] = []
        existing = self.client.get_experiment_by_name(manifest.name)
        self._digest = existing.tags.get(DIGEST) if existing else None
        self.experiment_id = self._adopt(existing) if existing else self._create_experiment()

    def _create_experiment(self) -> str:
        # With this kind, MLflow opens the page of training runs and not the traces of language models.
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            run_content.NOTE: run_content.experiment_note(self.manifest),
        }
        # The artifacts of an embedded store go next to it; a server decides where its artifacts go.
        artifacts = self._artifacts() if embedded(self.uri) else None
        return str(self.client.create_experiment(self.manifest.name, artifact_location=artifacts, tags=tags))

    def _adopt(self, existing: Experiment) -> str:
        """Bring an experiment that exists to the state that the mirror needs: not deleted, described, in its place."""
        number = str(existing.experiment_id)
        if existing.lifecycle_stage == LifecycleStage.DELETED:
            try:
                self.client.restore_experiment(number)
            except MlflowException as error:
                restore = f"mlflow experiments restore --experiment-id {number}"
                raise StoreFailed(f"{self.manifest.name} was deleted in MLflow ({_cause(error)})", restore) from None
            self._digest = None  # its runs are looked at one by one
            self._notes.append("the experiment, which was deleted in MLflow, is restored")
        if run_content.NOTE not in existing.tags:
            self.client.set_experiment_tag(number, run_content.NOTE, run_content.experiment_note(self.manifest))
        store, before, after = embedded(self.uri), str(existing.artifact_location), self._artifacts()
        if store is not None and before != after and self._has_moved(store, before):
            embedded_store.move_artifacts(store, before, after)
            self._notes.append(f"artifacts are looked for in {after}, and no longer in {before}")
        return number

    def _artifacts(self) -> str:
        return (self.results / ARTIFACTS).resolve().as_uri()

    def _has_moved(self, store: Path, location: str) -> bool:
        """Whether a location of artifacts is that of these results before somebody moved or copied their folder.

        A store outside of the results may be shared by several results folders, each with its own artifacts.
        """
        if not location.startswith("file:") or not location.endswith(f"/{ARTIFACTS}"):
            return False
        is_ours = store.parent == self.results.resolve()
        return is_ours or not Path(unquote(urlsplit(location).path)).parent.exists()

    def mirror(
        self,
        only: Collection[str] | None = None,
        progress: Callable[[str], object] = lambda cell_id: None,
        compare_all: bool = False,
    ) -> SyncResult:
        """Bring all runs, or those of the cells ``only``, up to date with their records.

        ``compare_all``: look at the runs also where the store says that nothing is missing, because somebody may have
        deleted some of them.
        """
        marks = sync_state.sync_state(self.results, self.manifest)
        digest = sync_state.digest(marks)
        result = SyncResult(notes=self._notes)
        if digest == self._digest and not compare_all:
            sync_state.remember_complete(self.results, self.manifest, self.uri, digest)
            return result
        mirrored = self._mirrored = self._search() if self._mirrored is None else self._mirrored
        for cell in self.manifest.cells:
            mark = marks[cell.cell_id]
            if mark == _mark_of(mirrored, cell) or (only is not None and cell.cell_id not in only):
                continue
            try:
                self._mirror_cell(cell, mark, mirrored, result)
            except MlflowException as error:
                if error.get_http_status_code() not in (400, 404) or _is_damage(error):
                    raise
                result.errors[cell.cell_id] = _cause(error)
            except UNREADABLE as error:
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
        """Return the stored runs by cell; those that somebody has deleted are restored.

        A cell has two runs if a request to create one timed out and arrived all the same; the emptier one is deleted.
        """
        stored: dict[str, _StoredRun] = {}
        deleted: dict[str, _StoredRun] = {}
        for run in self._runs(view=ViewType.ALL):
            cell_id = run.data.tags.get(CELL)
            if cell_id is None:
                continue
            steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
            mark = run.data.tags.get(MARK, "")
            found = _StoredRun(run.info.run_id, run.info.status, mark, bool(run.data.params), steps)
            if run.info.lifecycle_stage == LifecycleStage.DELETED:
                deleted[cell_id] = max(found, deleted.get(cell_id, found), key=_StoredRun.fullness)
                continue
            emptier, stored[cell_id] = sorted((found, stored.get(cell_id, found)), key=_StoredRun.fullness)
            if emptier is not stored[cell_id]:
                self.client.delete_run(emptier.run_id)
        lost = {cell.cell_id for cell in self.manifest.cells} & deleted.keys() - stored.keys()
        for cell_id in lost:
            self.client.restore_run(deleted[cell_id].run_id)
            stored[cell_id] = deleted[cell_id]
        if lost:
            runs = "1 run, which was" if len(lost) == 1 else f"{len(lost)} runs, which were"
            self._notes.append(f"{runs} deleted in MLflow, restored")
        return stored

    def _runs(self, filter_string: str = "", view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
        """Yield the experiment's runs that pass MLflow's filter, page by page."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, view, max_results=RUNS_PER_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def _mark_of(mirrored: Mapping[str, _StoredRun], cell: Expected) -> str:
    return mirrored[cell.cell_id].mark if cell.cell_id in mirrored else ""


@contextmanager
def write_turn(results: Path, uri: str) -> Iterator[int]:
    """Hold the lock of a store that is there and whole, and yield the number of this hold.

    Raises:
        Busy: another process, which is alive, writes to the store.
        SetAside: the embedded store of the results was damaged and has been renamed.
        StoreFailed: the store's client has failed.
    """
    store = embedded(uri)
    with _redacted_output(uri), _explained(uri):
        if store is not None:
            _require_place(store, results, uri)
        with writer_lock(lock_folder(results, uri)) as number:
            try:
                if store is not None:
                    embedded_store.prepare(store)
                yield number
            except (embedded_store.Damaged, MlflowException, SQLAlchemyError) as error:
                if store is None or not (isinstance(error, embedded_store.Damaged) or _is_damage(error)):
                    raise
                _disconnect(uri)
                raise _set_aside(store, results, uri, _cause(error)) from None
            finally:
                _disconnect(uri)


@contextmanager
def wait_for_turn(results: Path, uri: str, seconds: float = float("inf")) -> Iterator[None]:
    """Hold the lock of a store as ``write_turn`` does, after at most so many seconds; say for whom this process waits.

    Raises:
        StoreFailed: another process has held the lock all the time, or the store's client has failed.
    """
    until, holder = time.monotonic() + seconds, ""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(write_turn(results, uri))
                break
            except Busy as busy:
                if time.monotonic() > until:
                    raise StoreFailed(f"another mirror is at work: {busy}") from None
                if str(busy) != holder:
                    print(f"waiting for another mirror: {busy}", file=sys.stderr)
                holder = str(busy)
                time.sleep(BUSY_SECONDS)
        yield


def _require_place(store: Path, results: Path, uri: str) -> None:
    """Raise StoreFailed where MLflow would keep the store in another place than this."""
    meant = results.resolve() / store.name if uri == default_uri(results) else store
    if store.name == ":memory:":
        raise StoreFailed("a store in memory is gone when this command ends", "give the path of a file")
    if meant != store or Path(make_url(uri).database or "").resolve() != store:
        raise StoreFailed("MLflow cannot keep a store in a folder with ? or %xx in its name", "rename the folder")
    if not store.parent.is_dir():
        raise StoreFailed(f"there is no folder {store.parent}", f"mkdir {store.parent}")


def _set_aside(store: Path, results: Path, uri: str, why: str) -> StoreFailed:
    """Rename the damaged store of the results, and return what to raise; a store elsewhere is its owner's to move."""
    if store.parent != results.resolve():
        aside = store.with_name(f"{store.name}.damaged")
        return StoreFailed(f"it is damaged: {why}", shlex.join(["mv", str(store), str(aside)]) + ", then this again")
    shutil.rmtree(lock_folder(results, uri) / "complete", ignore_errors=True)
    aside = embedded_store.set_aside(store)
    return SetAside(
        f"{store} was damaged ({why}) and is now {aside.name}; a new one is filled from the records",
        "harness sync brings back all experiments",
    )


def _is_damage(error: BaseException) -> bool:
    """Whether SQLite has found that its file is no database, or a damaged one."""
    return any(type(link) is sqlite3.DatabaseError for link in _chain(error))


def _disconnect(uri: str) -> None:
    """Close MLflow's connections to an embedded store, whose file another process may replace when it has the lock."""
    if embedded(uri) is not None and (engine := SqlAlchemyStore._engine_map.get(uri)):
        engine.dispose()


class _RedactedStream:
    """A stream that writes to another one, without the secrets of a URI."""

    def __init__(self, stream: TextIO, uri: str) -> None:
        self._stream, self._uri = stream, uri

    def write(self, text: str) -> int:
        self._stream.write(redacted(text, self._uri))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def _redacted_output(uri: str) -> Iterator[None]:
    """Keep the secrets of a URI out of what libraries print."""
    if uri == public(uri):
        yield
        return
    output, errors = (cast("TextIO", _RedactedStream(stream, uri)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(output), redirect_stderr(errors):
        yield


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Raise StoreFailed for every error of the store's client."""
    try:
        yield
    except ImportError as error:
        raise StoreFailed(redacted(_cause(error), uri), f"pip install {error.name}") from None
    except embedded_store.OtherVersion as error:
        advice = "install the MLflow that wrote it, or move the file away; then this again"
        raise StoreFailed(f"it was written by a newer MLflow: {error}", advice) from None
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise StoreFailed(redacted(_cause(error), uri)) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreFailed(f"{error.filename} is in the way of a folder", f"rm {error.filename}") from None


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what has caused it, last first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


def _cause(error: BaseException) -> str:
    """Return the first line of the error, or of the network's or disk's error that caused it."""
    error = next((link for link in reversed(_chain(error)) if isinstance(link, OSError)), error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


@dataclass
class Follower:
    """Mirrors the records of a manifest's file again and again, in turn with the other writers of the store.

    ``say`` is called with the id of each cell that is mirrored; ``ready`` when the store is there, and when it cannot
    be had; ``note`` with what the user should know about the store.
    """

    results: Path
    manifest: Path
    uri: str
    say: Callable[[str], object]
    ready: Callable[[], object]
    note: Callable[[str], object]
    _mirror: Mirror | None = None
    _turn: int = 0
    _has_replaced: bool = False

    def follow(self, closed: threading.Event) -> bool:
        """Mirror every EVERY_SECONDS until ``closed``, then once more; return whether the last pass was complete."""
        pause, holder = 0.0, ""
        while True:
            is_last = closed.wait(pause)
            started, complete = time.monotonic(), False
            try:
                complete = self._mirror_once()
                pause = max(EVERY_SECONDS, 10 * (time.monotonic() - started))  # uses at most a tenth of a core
            except Busy as busy:
                if str(busy) != holder:
                    _log(f"waiting for another mirror: {busy}")
                holder = str(busy)
                time.sleep(BUSY_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001  (a later pass completes the mirror from the records)
                self._mirror = None
                if isinstance(error, SetAside):
                    self.note(f"{error}; {error.advice}")
                    if not self._has_replaced:  # a second new store that is damaged is a store that fails
                        self._has_replaced = True
                        continue
                self.ready()
                is_expected = isinstance(error, StoreFailed | OSError)
                _log(str(error) if is_expected else redacted(traceback.format_exc(), self.uri))
                pause = min(max(EVERY_SECONDS, 2 * pause), RARELY_SECONDS)
            if is_last:
                return complete

    def _mirror_once(self) -> bool:
        """Mirror what is new; return whether everything is mirrored."""
        with write_turn(self.results, self.uri) as turn:
            # Where another process has written since, what this one remembers of the store may be wrong.
            is_fresh = self._mirror is None or turn != self._turn + 1
            if self._mirror is None or is_fresh:
                self._mirror = Mirror(self.results, Manifest.load(self.manifest), self.uri)
                self.ready()
            self._turn = turn
            result = self._mirror.mirror(progress=self.say)
        for text in result.notes:
            self.note(text)
        result.notes.clear()
        if not result.errors:
            return True
        self._mirror = None
        if not is_fresh:  # somebody may have deleted runs meanwhile, which a new look at the store finds
            return self._mirror_once()
        _log(*(f"{cell_id}: {redacted(error, self.uri)}" for cell_id, error in result.errors.items()))
        return False


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

    Prints ``ready`` when the experiment exists in the store, then the id of each cell that it has mirrored, and notes
    for the user. A sweep waits for its store, so this process gives way to others only from then on.
    """
    closed = threading.Event()

    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    with json_process.answers() as answer:

        def say(line: str) -> None:
            with suppress(BrokenPipeError):  # the sweep was killed and does not read any more
                answer(line)

        def ready() -> None:
            _let_training_come_first()
            say("ready")

        def note(text: str) -> None:
            _log(text)
            say(f"{NOTE}{text}")

        results, manifest, uri = Path(sys.argv[1]), Path(sys.argv[2]), with_secret(sys.argv[3])
        return 0 if Follower(results, manifest, uri, say, ready, note).follow(closed) else 1


if __name__ == "__main__":
    sys.exit(main())
