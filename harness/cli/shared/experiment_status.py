"""The status of experiments, of their sweeps and of their cells: what ``harness status`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.shared.selection import Group, names_in, select
from harness.cli.shared.text import hours
from harness.environment.process import ProcessIdentity
from harness.manifest import Exclusion
from harness.store.index import Index, Summary
from harness.store.record import Attempt
from harness.store.signs_of_life import STALE_SECONDS, is_recent
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger

#: In a scheduler's reasons for which a job waits for ever, unless somebody does something.
STUCK = ("held", "limit", "invalid", "badconstraints", "neversatisfied", "dependencynever")


@dataclass(frozen=True)
class CellProgress:
    """How far a running cell is; ``val_knn`` and ``loss`` are those of its last complete epoch.

    ``waits``: the seconds since its last step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    val_knn: float | None
    samples_per_second: float
    seconds_left: float
    waits: float

    @classmethod
    def of(cls, running: Summary) -> CellProgress | None:
        """Return the progress of a running cell; None before its first step."""
        progress = running.progress
        cell = running.typed_cell() if progress else None
        if progress is None or cell is None:
            return None
        return cls(
            epoch=progress.epoch + 1,
            epochs=cell.epochs,
            step=progress.step,
            steps=progress.steps,
            loss=running.last.metrics.get("loss") if running.last else None,
            val_knn=running.val_knn,
            samples_per_second=progress.rate,
            seconds_left=progress.seconds_left(cell.batch_size),
            waits=progress.waits,
        )


@dataclass(frozen=True)
class CellStatus:
    """The status of a cell.

    ``ends``: how many attempts ended by each cause; ``job``: the scheduler's id of the cell's job, ``waits``: why the
    job waits, ``held``: whether it does not start unless somebody acts; ``damaged``: which of its files are damaged, or
    were when it was computed; ``silence``: what is known of a process that computes it and gives no sign of life.
    """

    cell_id: str
    name: str
    state: str
    attempts: int
    ends: dict[str, int]
    host: str | None
    job: str | None
    waits: str | None
    held: bool
    progress: CellProgress | None
    cause: str | None
    error: str | None
    log: str | None
    collapsed: str | None
    metrics: dict[str, float] | None
    seconds: float | None
    damaged: list[str] | None
    silence: str | None

    @classmethod
    def of(cls, index: Index, cell_id: str, name: str, state: str) -> CellStatus:
        """Return the status of a cell, from the summary of its record in the index."""
        summary, outcome = index[cell_id], index[cell_id].outcome
        waits = _waits(index, cell_id) if state == "queued" else None
        return cls(
            cell_id=cell_id,
            name=name,
            state=state,
            attempts=summary.attempts,
            ends=summary.ends,
            host=summary.conditions.host,
            job=index.task_id(cell_id) or None,
            waits=waits,
            held=any(word in (waits or "").lower() for word in STUCK),
            progress=CellProgress.of(summary),
            cause=summary.cause if state == "failed" else None,
            error=summary.error if state == "failed" else None,
            log=str(index.last_attempt(cell_id).log("stderr")) if summary.attempts else None,
            collapsed=(summary.collapse if state in ("running", "finished") else "") or None,
            metrics=outcome.metrics if outcome else None,
            seconds=outcome.seconds if outcome else None,
            damaged=[*summary.damaged, *(outcome.notes if outcome else [])] or None,
            silence=_silence_of_attempt(index.last_attempt(cell_id)) if not summary.at_rest else None,
        )

    def is_of_kind(self, kind: str) -> bool:
        """Whether this is the cell's state, or ``kind`` is held, collapsed, damaged or silent and the cell is that."""
        silent = self.silence if self.state != "running" else None
        more = {"held": self.held, "collapsed": self.collapsed, "damaged": self.damaged, "silent": silent}
        return kind == self.state or bool(more.get(kind))


@dataclass(frozen=True)
class SweepStatus:
    """The status of a sweep; ``stopped``: why it starts no more cells, None while it may; ``damaged``: files of its
    ledger; ``silence``: what is known of its process, if that gives no sign of life."""

    name: str
    host: str | None
    alive: bool
    stopped: str | None
    damaged: list[str] | None
    silence: str | None


@dataclass(frozen=True)
class ExperimentStatus:
    """The status of an experiment; ``counts``: its cells by state; ``sweeps``: those that are alive, and the last."""

    name: str
    counts: dict[str, int]
    sweeps: list[SweepStatus]
    excluded: list[Exclusion]
    cells: list[CellStatus]

    @property
    def goes_on(self) -> bool:
        """Whether cells are queued or running, or a sweep is alive."""
        return bool({"queued", "running"} & set(self.counts)) or any(sweep.alive for sweep in self.sweeps)


@dataclass(frozen=True)
class DamagedExperiment:
    """An experiment whose manifest cannot be read."""

    name: str
    error: str


def experiments(words: Sequence[str], results: Path, index: Index) -> list[ExperimentStatus | DamagedExperiment]:
    """Return the chosen cells by experiment, then the experiments that cannot be read.

    Raises:
        UserError: as ``select`` does.
    """
    selection = select(words, results, index)
    states = selection.states()
    listed = []
    for group in selection.groups:
        names = names_in(group) if group.manifest else selection.names
        cells = [CellStatus.of(index, cell.cell_id, names[cell.cell_id], states[cell.cell_id]) for cell in group.cells]
        counts = dict(Counter(cell.state for cell in cells))
        excluded = group.manifest.exclusions if group.manifest else []
        listed.append(ExperimentStatus(group.name, counts, _sweeps(group, results), excluded, cells))
    return [*listed, *(DamagedExperiment(name, str(error)) for name, error in selection.damaged.items())]


def _waits(index: Index, cell_id: str) -> str | None:
    """Return the scheduler's reason for which a queued cell waits."""
    status = index.job_status(cell_id)
    return (status.why or status.state.lower()) if status else None


def _sweeps(group: Group, results: Path) -> list[SweepStatus]:
    """Return the sweeps whose process is alive, and the last one."""
    ledgers = Ledger.all_of(results, group.name)
    alive = [ledger.alive() for ledger in ledgers]
    return [
        SweepStatus(
            ledger.path.name, ledger.host, is_alive, ledger.stop_reason() or None, _damaged(ledger), _silence(ledger)
        )
        for ledger, is_alive in zip(ledgers, alive, strict=True)
        if is_alive or ledger is ledgers[-1]
    ]


def _silence(ledger: Ledger) -> str | None:
    """Return what is known of a sweep that has not ended and gives no sign of life."""
    age = ledger.age()
    return None if age is None else silence(ProcessIdentity.from_json(ledger.facts()), age)


def _silence_of_attempt(attempt: Attempt) -> str | None:
    """Return what is known of an attempt that has not ended and gives no sign of life."""
    age = attempt.age()
    if age is None or attempt.outcome_file.exists():
        return None
    return silence(attempt.provenance().process, age)


def silence(process: ProcessIdentity, age: float) -> str | None:
    """Return a clause about a process that is stopped, or may exist and has a heartbeat of this age; else None."""
    stopped = process.is_stopped()
    if not process.exists() or (is_recent(age) and not stopped):
        return None
    who = f"process {process.pid or '?'} on {process.host or '?'}"
    if age < -STALE_SECONDS:
        said = f"the last sign of life of {who} is dated {hours(-age / 3600)} from now: a clock is wrong or was set"
    elif is_recent(age):
        said = f"{who} has just been stopped"
    else:
        said = f"{who} has given no sign of life for {hours(age / 3600)}"
    return f"{said}; it is stopped, and goes on with: kill -CONT {process.pid}" if stopped else said


def _damaged(ledger: Ledger) -> list[str] | None:
    """Return which files of a sweep's ledger are damaged, each in a sentence."""
    damages = [*ledger.damages(), *JobArrays(ledger.path).damages()]
    return [damaged.sentence for damaged in damages] or None
