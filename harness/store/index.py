"""A summary of every record below a folder, remembered between commands: 10,000 records are not 30,000 opens.

Only what has come to rest is remembered: the files of a finished record, of one whose last attempt has ended, and of
one that was never begun do not change without touching a folder, unless they are damaged. So an entry holds while the
modification times of the record's folder, of ``attempts``, of the last attempt and of the files that are read are what
they were when it was read; and it is remembered only where these were so old by then that any later change shows in
them. The rest is read anew each time.

The memory is a file in the user's cache, which may vanish, be damaged, or not be writable: that costs time only. Its
checksum is compared whenever it is read, because the numbers of reports come from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import harness
from harness.cell import OWN, Cell, Dataset, from_dict
from harness.cell import versionless_id as identity_without_versions
from harness.diagnostics import collapse
from harness.errors import DamagedFile
from harness.evaluation import Evaluation
from harness.files import CHECKSUM_KEY, cache_folder, read_as, read_json, write_json
from harness.store.outcome import Outcome
from harness.store.progress import Event, TrainingProgress
from harness.store.provenance import Provenance
from harness.store.record import ENCODER_NAME, EVENTS_NAME, Attempt, Record
from harness.store.signs_of_life import file_system_time
from harness.store.submission import Submission
from harness.store.sweeps.job_arrays import JobArrays, JobStatus
from harness.store.sweeps.ledger import Ledger
from harness.trees import Node, Scalar, Tree, node_at, value_at

T = TypeVar("T")

#: A folder that changed later than this may change again within the resolution of its modification time.
SETTLED_SECONDS = 2.0
CELL_ID = re.compile(r"[0-9a-f]{12}")
#: The files of a record and of its last attempt in which a change is noticed that touches no folder.
FILES = ("cell.json", "outcome.json")
FILES_OF_ATTEMPT = ("provenance.json", EVENTS_NAME, ENCODER_NAME)


@dataclass(frozen=True)
class Conditions:
    """What is remembered of the provenance of an attempt."""

    host: str | None = None
    hardware: str | None = None
    threads: int | None = None
    revision: str | None = None
    dirty: bool | None = None
    micro_batch: int | None = None
    compile: bool = False

    @classmethod
    def of(cls, provenance: Provenance) -> Conditions:
        """Return the conditions that an attempt's provenance states."""
        environment, config = provenance.environment, provenance.submission.run
        return cls(
            host=provenance.process.host,
            hardware=environment.hardware,
            threads=environment.threads,
            revision=environment.revision,
            dirty=environment.dirty,
            micro_batch=config.micro_batch,
            compile=config.compile,
        )


@dataclass(frozen=True)
class Summary:
    """The summary of one record.

    ``state``: one of ``record.STATES`` but stale (``Index.state_of``).
    ``versionless_id``: its identity without the versions of components; ``cell``: the content of cell.json, defaults
    filled in. Both are empty where the file is damaged.
    ``attempts``: how many; ``attempt``: the number of the last; ``ends``: how many attempts ended by each cause
    (finished, where there is no cause; killed, where there is no outcome).
    ``submission``: how it was last submitted; ``outcome``: the published one; ``ended``: how the last attempt ended.
    ``first``, ``last``: events; ``curve``: the learning curve, as epochs and kNN accuracies.
    ``conditions``: those of the published attempt, or else of the last; ``progress``: that of a running attempt.
    ``damaged``: which of its files are damaged, each in a sentence; only where its results depend on one of them, its
    state is damaged.
    """

    cell_id: str
    state: str = "missing"
    versionless_id: str = ""
    cell: Tree = field(default_factory=dict)
    attempts: int = 0
    attempt: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    submission: Submission | None = None
    outcome: Outcome | None = None
    ended: Outcome | None = None
    first: Event | None = None
    last: Event | None = None
    curve: list[list[float]] = field(default_factory=list)
    conditions: Conditions = Conditions()
    progress: TrainingProgress | None = None
    damaged: list[str] = field(default_factory=list)

    @property
    def val_knn(self) -> float | None:
        """The last point of the learning curve."""
        return self.curve[-1][1] if self.curve else None

    @property
    def error(self) -> str:
        """Why it failed."""
        return self.ended.error if self.ended else ""

    @property
    def cause(self) -> str:
        """Why it failed or was interrupted, in a word."""
        return self.ended.cause if self.ended else ""

    @property
    def collapse(self) -> str:
        """Why its embeddings count as collapsed; empty where they do not, or before the first epoch has ended."""
        if not (self.first and self.last) or self.last.step == 0:
            return ""
        return collapse(self.last.metrics, self.first.metrics)

    def typed_cell(self) -> Cell | None:
        """Return the cell; None where its file is damaged."""
        return from_dict(Cell, self.cell) if self.cell else None

    def value(self, path: str) -> Scalar:
        """Return the cell's value at a dotted path; None where it has none."""
        return value_at(self.cell, path)

    def own_parameters(self) -> Iterable[str]:
        """Return the names of the parameters of a user's own loss."""
        parameters = node_at(self.cell, OWN.rstrip("."))
        return parameters if isinstance(parameters, Mapping) else ()

    @property
    def at_rest(self) -> bool:
        """Whether no process works on the record, as far as its files say, so that its summary stays true."""
        return self.state == "finished" or self.attempts == 0 or self.ended is not None

    def to_json(self) -> dict[str, Node]:
        """The fields as the cache file holds them."""
        files = (self.submission, self.outcome, self.ended, self.first, self.last)
        written = (content.to_json() if content else None for content in files)
        return {
            **vars(self),
            **dict(zip(("submission", "outcome", "ended", "first", "last"), written, strict=True)),
            "conditions": vars(self.conditions),
            "progress": None,  # of a running attempt, which is not remembered
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Summary:
        """Return the summary that the cache file holds."""
        names = ("submission", "outcome", "ended", "first", "last")
        submission, outcome, ended, first, last = (content[name] for name in names)
        published = Outcome.from_json(outcome) if outcome else None
        last_ended = Outcome.from_json(ended) if ended and ended != outcome else None
        typed = {
            "submission": None if submission is None else Submission.from_json(submission),
            "outcome": published,
            "ended": published if ended == outcome else last_ended,  # built once: most cells finish at once
            "first": Event.from_json(first) if first else None,
            "last": Event.from_json(last) if last else None,
            "conditions": Conditions(**content["conditions"]),
        }
        return cls(**{**content, **typed})


class Index:
    """The records below ``runs`` as they were when they were first asked for, since the last ``refresh``."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        name = hashlib.sha256(os.fsencode(runs.absolute())).hexdigest()[:24]
        self._file = cache_folder() / "records" / f"{name}.json"
        self._remembered: dict[str, list[Any]] = _load(self._file)  # cell id -> [times, fields of its summary]
        self._changed = False
        self.refresh()

    def refresh(self) -> None:
        """Read the disk again."""
        self._listed, self._now = _listed(self.runs), file_system_time(self.runs)
        self._seen: dict[str, Summary] = {}
        self._alive: dict[Path, bool] = {}
        self._batches: dict[Path, JobArrays] = {}
        self._finished_by_versionless_id: dict[str, list[str]] | None = None

    def cell_ids(self) -> list[str]:
        """The ids of all cells that have a record, sorted."""
        return sorted(self._listed)

    def __getitem__(self, cell_id: str) -> Summary:
        if cell_id not in self._seen:
            settled = self._look(cell_id) if cell_id in self._listed else Summary(cell_id)
            queued = settled.state in ("missing", "failed") and self._queued(settled)
            self._seen[cell_id] = dataclasses.replace(settled, state="queued") if queued else settled
        return self._seen[cell_id]

    def finished_with_other_version(self, versionless_id: str) -> list[str]:
        """Return the finished cells that have this identity without versions."""
        if self._finished_by_versionless_id is None:
            self._finished_by_versionless_id = defaultdict(list)
            for cell_id in self.cell_ids():
                if self[cell_id].state == "finished":
                    self._finished_by_versionless_id[self[cell_id].versionless_id].append(cell_id)
        return self._finished_by_versionless_id.get(versionless_id, []) if versionless_id else []

    def state_of(self, cell_id: str, versionless_id: str) -> str:
        """The state of a declared cell: stale where only another version of it has finished."""
        state = self[cell_id].state
        return "stale" if state == "missing" and self.finished_with_other_version(versionless_id) else state

    def job_status(self, cell_id: str) -> JobStatus | None:
        """Return the last known status of the job that has this cell; None where no job has it."""
        batches = self._scheduled(self[cell_id])
        return batches.job_status(cell_id) if batches else None

    def task_id(self, cell_id: str) -> str:
        """The scheduler's id of the job that last had this cell; empty where there is none."""
        batches = self._scheduled(self[cell_id])
        return batches.task_id(cell_id) if batches else ""

    def record(self, cell_id: str) -> Record:
        """Return the record of a cell, which need not exist."""
        return Record(self.runs / cell_id)

    def last_attempt(self, cell_id: str) -> Attempt:
        """Return the last attempt at a cell that was begun."""
        return Attempt(self.record(cell_id), self[cell_id].attempt)

    def metrics(self, cell_id: str, evaluation: Evaluation, on: Dataset | None = None) -> dict[str, float] | None:
        """Return what ``Record.metrics`` does; files are opened only for evaluations that were added."""
        summary = self[cell_id]
        if summary.outcome is None:
            return None
        same_images = on is None or dataclasses.asdict(on) == summary.cell.get("dataset")
        measured = summary.outcome.evaluation if same_images else None
        if measured and measured.final() == evaluation.final():
            return summary.outcome.metrics
        try:
            return self.record(cell_id).metrics(evaluation, on)
        except DamagedFile:  # since it was remembered
            return None

    def remember(self) -> None:
        """Keep what was read for the next command."""
        kept = {cell_id: entry for cell_id, entry in self._remembered.items() if cell_id in self._listed}
        if not self._changed and len(kept) == len(self._remembered):
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {"format": FORMAT, "records": kept}, indent=None)

    def _look(self, cell_id: str) -> Summary:
        folder = str(self.runs / cell_id)
        with suppress(TypeError, ValueError, KeyError):  # a damaged memory costs time and nothing else
            times, facts = self._remembered.get(cell_id) or ([], {"attempt": 0})
            if times and times == _times(folder, facts["attempt"]):
                return Summary.from_json(facts)
        record = self.record(cell_id)
        try:
            numbers = [attempt.number for attempt in record.attempts()]
        except DamagedFile as damaged:
            return Summary(cell_id, "damaged", damaged=[damaged.sentence])
        before = _times(folder, max(numbers, default=0))
        summary = _read(record, numbers)
        if before and summary.at_rest and not summary.damaged and self._now - max(before[0]) / 1e9 > SETTLED_SECONDS:
            self._remembered[cell_id] = [before, summary.to_json()]
            self._changed = True
        return summary

    def _queued(self, summary: Summary) -> bool:
        """Whether a sweep that is alive will begin it, or a scheduler's job that is not over has it."""
        submission = summary.submission
        folder = self.record(summary.cell_id).sweep_folder(submission)
        if submission is None or folder is None or submission.withdrawn:
            return False
        begun = submission.attempts_before != summary.attempts
        if batches := self._scheduled(summary):
            status = batches.job_status(summary.cell_id)
            return status is not None and not status.over and not (begun and summary.state == "failed")
        if begun:
            return False
        if folder not in self._alive:
            self._alive[folder] = Ledger(folder).alive()
        return self._alive[folder]

    def _scheduled(self, summary: Summary) -> JobArrays | None:
        """The batches of the sweep that last submitted it, if that went through a scheduler."""
        folder = self.record(summary.cell_id).sweep_folder(summary.submission)
        if folder is None:
            return None
        if folder not in self._batches:
            self._batches[folder] = JobArrays(folder)
        return self._batches[folder] if self._batches[folder].exists else None


#: A memory of another version of harness, of other fields, or without a checksum is none.
FORMAT = [
    harness.__version__,
    CHECKSUM_KEY,
    *(item.name for cls in (Summary, Conditions) for item in dataclasses.fields(cls)),
]


def _load(path: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError, TypeError, KeyError, DamagedFile):
        content = read_json(path) or {}
        if content.get("format") == FORMAT:
            return dict(content["records"])
    return {}


def _listed(runs: Path) -> set[str]:
    try:
        with os.scandir(runs) as entries:
            return {entry.name for entry in entries if CELL_ID.fullmatch(entry.name)}
    except FileNotFoundError:
        return set()


def _times(folder: str, attempt: int) -> list[list[int]] | None:
    """Return when the three folders changed, and when the files that are read did, 0 for a file that is not there; None
    where a folder is gone."""
    last = f"{folder}/attempts/{attempt}"
    folders = [folder, f"{folder}/attempts", *([last] if attempt else [])]
    files = [f"{folder}/{name}" for name in FILES] + [f"{last}/{name}" for name in FILES_OF_ATTEMPT if attempt]
    try:
        return [[os.stat(path).st_mtime_ns for path in folders], [_changed(path) for path in files]]
    except (FileNotFoundError, NotADirectoryError):
        return None


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


class _Damages:
    """The damaged files that were met while a record was read."""

    def __init__(self) -> None:
        self.met: list[DamagedFile] = []

    def or_none(self, read: Callable[[], T]) -> T | None:
        """Return what ``read`` returns; None where the file is damaged."""
        try:
            return read()
        except DamagedFile as damaged:
            self.met.append(damaged)
            return None


def _read(record: Record, numbers: list[int]) -> Summary:
    damages = _Damages()
    state, outcome, events = damages.or_none(lambda: _results(record, damages.met)) or ("damaged", None, [])
    last = Attempt(record, numbers[-1]) if numbers else None
    shown = Attempt(record, outcome.attempt) if outcome else last
    curve = [[event.epoch or 0, event.metrics["val_knn"]] for event in events if "val_knn" in event.metrics]
    cell = damages.or_none(record.cell)
    outcomes = [damages.or_none(partial(_outcome, Attempt(record, number))) for number in numbers]
    provenance = damages.or_none(partial(_provenance, shown)) if shown else None
    if outcome:
        damages.or_none(partial(record.check_length_of_encoder, outcome))
    return Summary(
        record.cell_id,
        state,
        identity_without_versions(cell) if cell else "",
        dataclasses.asdict(cell) if cell else {},
        len(numbers),
        numbers[-1] if numbers else 0,
        _ends(outcomes, state),
        damages.or_none(record.submission),
        outcome,
        outcomes[-1] if outcomes else None,
        events[0] if events else None,
        events[-1] if events else None,
        curve,
        Conditions.of(provenance) if provenance else Conditions(),
        last.progress() if last and state == "running" else None,
        [damaged.sentence for damaged in damages.met],
    )


def _results(record: Record, skipped: list[DamagedFile]) -> tuple[str, Outcome | None, list[Event]]:
    """Return the state of a record, its published outcome and its curve.

    Raises:
        DamagedFile: they are damaged.
    """
    outcome = record.outcome()
    events = record.curve(outcome, skipped)
    if outcome is None:
        return record.unfinished_state(), None, events
    return "finished", outcome, events


def _outcome(attempt: Attempt) -> Outcome | None:
    return read_as(attempt.outcome_file, Outcome.from_json)


def _provenance(attempt: Attempt) -> Provenance | None:
    return read_as(attempt.provenance_file, Provenance.from_json)


def _ends(outcomes: Sequence[Outcome | None], state: str) -> dict[str, int]:
    """Return how many attempts ended by each cause; a running attempt has not ended."""
    over = outcomes[:-1] if state == "running" else outcomes
    return dict(Counter(outcome.reason if outcome else "killed" for outcome in over))
