"""CONTRACT 2. A Record is one cell's directory on disk, the only source of what happened to the cell.

::

    results/runs/<cell_id>/
        cell.json               what to compute
        submission.json         how it was last submitted: data, device, threads, evaluation, sweep, scheduler id
        attempts/<n>/           provenance.json  events.jsonl  stdout.log  stderr.log  checkpoint.pt  heartbeat
                                encoder.safetensors  outcome.json  stop (a request to end)
        outcome.json            the published outcome of the attempt that finished first
        evaluations/<key>.json  evaluations that were added to the finished cell
        *.damaged-<n>           what was damaged, kept (``harness.store.maintenance.repair``)

A file on which a number depends is read strictly: it is what was written, or DamagedFile is raised. Those files have
checksums: in the JSON files, in the checkpoint, and in the outcome for the curve and the weights; ``cell.json`` is
proven by the name of its folder. A file that only tells how an attempt went reads as empty where it is damaged.

An attempt begins with an exclusive ``mkdir`` and writes nowhere else; a later attempt supersedes an earlier one,
even one that is still alive; ``outcome.json`` is published by an exclusive link. There are no lock files, and clocks of
different machines are never compared (``harness.store.signs_of_life``).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cell import Cell, Dataset, from_dict
from harness.errors import DamagedFile
from harness.evaluation import Evaluation
from harness.files import (
    DAMAGE,
    Json,
    link,
    read_as,
    read_if_whole,
    read_json,
    reading_error,
    set_aside,
    write_json,
)
from harness.store.checksum import Checksum
from harness.store.outcome import Outcome
from harness.store.progress import Event, TrainingProgress, append_event, read_events
from harness.store.provenance import Provenance
from harness.store.signs_of_life import age, is_recent, look_again, moves
from harness.store.submission import Submission
from harness.trees import Tree

STATES = ("missing", "queued", "running", "finished", "failed", "stale", "damaged")

#: The file of the trained encoder, in a record and in what is exported.
ENCODER_NAME = "encoder.safetensors"
#: The file of the learning curve in an attempt.
EVENTS_NAME = "events.jsonl"


class Busy(Exception):
    """Another process, which is alive, computes the cell."""


class Superseded(Exception):
    """A later attempt at the same cell has begun."""


@dataclass(frozen=True)
class Record:
    """The directory of one cell; it is cheap to construct, and reads nothing until a method is called."""

    path: Path

    @classmethod
    def prepare(cls, runs: Path, cell: Cell) -> Record:
        """Return the record of ``cell`` below ``runs``, and create it where it does not exist yet."""
        record = cls(runs / cell.cell_id)
        (record.path / "attempts").mkdir(parents=True, exist_ok=True)
        if not (record.path / "cell.json").exists():
            record.write_cell(cell)
        return record

    def write_cell(self, cell: Cell) -> None:
        """Write what to compute, without a checksum: the name of the record's folder proves it."""
        write_json(self.path / "cell.json", dataclasses.asdict(cell), checksum=False)

    @property
    def cell_id(self) -> str:
        """The id of the record's cell, which is the folder's name."""
        return self.path.name

    @property
    def submission_file(self) -> Path:
        """The file that says how the cell was last submitted."""
        return self.path / "submission.json"

    @property
    def outcome_file(self) -> Path:
        """The file of the published outcome."""
        return self.path / "outcome.json"

    def cell(self) -> Cell:
        """The cell that this record is about.

        Raises:
            DamagedFile: ``cell.json`` is missing, damaged, or of another cell than the folder's name says.
        """
        file = self.path / "cell.json"
        content = read_json(file)
        try:
            cell = None if content is None else from_dict(Cell, content)
        except (TypeError, ValueError, AttributeError):
            raise DamagedFile(file, "this is not the cell that its folder is named after") from None
        if cell is None or cell.cell_id != self.cell_id:  # values of other types have another id
            what = "it is missing" if cell is None else "it holds another cell"
            raise DamagedFile(file, f"{what}; this is not the cell that its folder is named after")
        return cell

    def submit(self, submission: Submission) -> Submission:
        """Write the intent to run this cell, before anything starts, and return what was written.

        ``submission.sweep`` names the ledger of the sweep that intends it. An earlier withdrawal is forgotten.
        """
        attempts = len(self.attempts())
        written = replace(submission, submitted_at=time.time(), attempts_before=attempts, withdrawn_at=None)
        write_json(self.submission_file, written.to_json())
        return written

    def withdraw(self) -> None:
        """Take the submission back: a process that has the cell in a queue will not start it."""
        submission = read_if_whole(self.submission_file, Submission.from_json) or Submission()
        write_json(self.submission_file, replace(submission, withdrawn_at=time.time()).to_json())

    def submission(self) -> Submission | None:
        """How the cell was last submitted; None where it never was.

        Raises:
            DamagedFile: the file is damaged.
        """
        return read_as(self.submission_file, Submission.from_json)

    def withdrawn(self) -> bool:
        """Whether the last submission was taken back."""
        submission = read_if_whole(self.submission_file, Submission.from_json)
        return submission is not None and submission.withdrawn

    def sweep_folder(self, submission: Submission | None) -> Path | None:
        """The folder of the ledger of the sweep that submitted this cell; None where no sweep did."""
        return self.path.parent.parent / "sweeps" / submission.sweep if submission and submission.sweep else None

    def outcome(self) -> Outcome | None:
        """The published outcome; None while the cell has not finished.

        Raises:
            DamagedFile: the file is damaged.
        """
        outcome = read_as(self.outcome_file, Outcome.from_json)
        if outcome and not (outcome.finished and outcome.attempt > 0):
            raise DamagedFile(self.outcome_file, "it is not the outcome of an attempt that has finished")
        return outcome

    def check_length_of_encoder(self, outcome: Outcome) -> None:
        """Check what can be seen of the weights without reading them.

        No number of the cell depends on the weights, so their damage does not change the state of the cell.

        Raises:
            DamagedFile: they are cut, or no file.
        """
        encoder = Attempt(self, outcome.attempt).encoder
        vouched = outcome.files.get(self.name_of(encoder))
        if vouched is None:
            return
        try:
            if not encoder.exists():  # records are imported without weights
                return
            length = encoder.stat().st_size if encoder.is_file() else 0
        except OSError as error:
            raise reading_error(encoder, error) from None
        if length != vouched.length or not encoder.is_file():
            raise DamagedFile(encoder, f"it has {length} bytes of {vouched.length}")

    def name_of(self, path: Path) -> str:
        """Return the path of a file of this record as its outcome names it."""
        return path.relative_to(self.path).as_posix()

    def whole_encoder(self) -> Path | None:
        """Return what ``encoder`` does, after every byte of it was checked.

        Raises:
            DamagedFile: the file is damaged.
        """
        encoder, outcome = self.encoder(), self.outcome()
        if encoder and outcome and (vouched := outcome.files.get(self.name_of(encoder))):
            self.check_length_of_encoder(outcome)
            vouched.check(encoder)
        return encoder

    def encoder(self) -> Path | None:
        """The file of the trained weights; None before the cell has finished, and where they were not imported."""
        outcome = self.outcome()
        if outcome is None:
            return None
        path = Attempt(self, outcome.attempt).encoder
        return path if path.exists() else None

    def metrics(self, evaluation: Evaluation, on: Dataset | None = None) -> dict[str, float] | None:
        """Return the accuracies under these settings of an evaluation, measured when the cell finished or added since.

        None where neither has been done. ``on``: another data set than the cell's.
        """
        outcome = self.outcome()
        if outcome is None:
            return None
        same_images = on is None or on == self.cell().dataset
        measured = outcome.evaluation if same_images else None
        if measured and measured.final() == evaluation.final():
            return outcome.metrics
        added = self.added_evaluation(evaluation.key(on or self.cell().dataset))
        return added["metrics"] if added else None

    def added_evaluation(self, key: str) -> Json | None:
        """Return an evaluation that was added; None where there is none, or only a damaged one."""
        return read_if_whole(self.path / "evaluations" / f"{key}.json", added_evaluation)

    def add_evaluation(self, key: str, content: Tree) -> None:
        """Publish an evaluation; where another process was faster, its evaluation stays: it has the same numbers."""
        folder = self.path / "evaluations"
        folder.mkdir(exist_ok=True)
        published = folder / f"{key}.json"
        if published.exists() and self.added_evaluation(key) is None:
            set_aside(published)
        with suppress(FileExistsError):
            write_json(published, content, "x")

    def attempts(self) -> list[Attempt]:
        """All attempts, first to last.

        Raises:
            DamagedFile: something else lies in the place of their folder.
        """
        folder = self.path / "attempts"
        try:
            numbers = sorted(int(name) for name in os.listdir(folder) if name.isdigit())
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno not in DAMAGE:
                raise reading_error(folder, error) from None
            raise DamagedFile(self.path if self.path.is_file() else folder, "it is no folder") from None
        return [Attempt(self, number) for number in numbers]

    def state(self) -> str:
        """Return missing, running, finished, failed or damaged; a dead attempt leaves its cell missing, to be computed
        again.

        The states queued and stale need sweeps and other records: ``harness.store.index`` finds them.
        """
        try:
            return self._state_if_whole()
        except DamagedFile:
            return "damaged"

    def damage(self) -> DamagedFile | None:
        """Return what makes the state damaged; None in any other state."""
        try:
            self._state_if_whole()
        except DamagedFile as damaged:
            return damaged
        return None

    def _state_if_whole(self) -> str:
        """Return the state; raise DamagedFile where what the cell has computed is damaged."""
        outcome = self.outcome()
        if outcome is None:
            return self.unfinished_state()
        self.curve(outcome)
        return "finished"

    def unfinished_state(self) -> str:
        """Return the state of a cell without a published outcome.

        Raises:
            DamagedFile: what it has computed is damaged.
        """
        attempts = self.attempts()
        if not attempts:
            return "missing"
        ended = attempts[-1].outcome()
        if ended is None:
            return "running" if attempts[-1].alive() else "missing"
        if ended.finished:  # and not published yet
            self.curve(replace(ended, attempt=attempts[-1].number))
        return "failed" if ended.failed else "missing"

    def events(self) -> list[Event]:
        """Return the curve of the cell, as ``curve`` does."""
        return self.curve(self.outcome())

    def curve(self, outcome: Outcome | None, skipped: list[DamagedFile] | None = None) -> list[Event]:
        """Return the events of all attempts by step; of equal metrics and steps the last attempt's counts.

        ``outcome``: the published one, or None; only those events count that it vouches for, if it vouches for any.
        Of a cell that has not finished, files that cannot be read are left out, and added to ``skipped``.

        Raises:
            DamagedFile: the cell has finished, and its events are not those that it was finished with.
        """
        merged: dict[int, Event] = {}
        for attempt, vouched in self._parts_of_curve(outcome):
            try:
                for event in attempt.events(vouched):
                    before = merged[event.step].metrics if event.step in merged else {}
                    merged[event.step] = replace(event, metrics={**before, **event.metrics})
            except DamagedFile as error:
                if outcome:
                    raise
                if skipped is not None:
                    skipped.append(error)
        return [merged[step] for step in sorted(merged)]

    def _parts_of_curve(self, outcome: Outcome | None) -> list[tuple[Attempt, Checksum | None]]:
        """Return the attempts whose events make the curve, each with what its file must begin with."""
        if not (outcome and outcome.files):
            return [(attempt, None) for attempt in self.attempts()]
        parts = [(Path(name), vouched) for name, vouched in outcome.files.items()]
        return [(Attempt(self, int(path.parts[1])), vouched) for path, vouched in parts if path.name == EVENTS_NAME]

    def begin(self, provenance: Provenance | None = None) -> Attempt:
        """Begin a new attempt at the cell, if the last one is dead; by default in this process and now.

        Raises:
            Busy: the cell has finished, the last attempt is alive, or another process has just begun one.
        """
        provenance, attempts = provenance or Provenance(), self.attempts()
        last = attempts[-1].outcome() if attempts else None
        if last and last.finished and not self.outcome():
            attempts[-1].publish()  # it was killed, or has not come to it yet
        if self.outcome():
            raise Busy(f"cell {self.cell_id} has already finished")
        held = attempts and last is None and not self._restarted(attempts[-1], provenance)
        if held and self._holds_on(attempts[-1]):
            raise Busy(f"cell {self.cell_id} is running: {attempts[-1].holder()}")
        attempt = Attempt(self, attempts[-1].number + 1 if attempts else 1)
        try:
            attempt.path.mkdir(parents=True)
        except FileExistsError:
            raise Busy(f"cell {self.cell_id} has just been started by another process") from None
        attempt.heartbeat_file.touch()
        write_json(attempt.provenance_file, provenance.to_json())
        return attempt

    def _holds_on(self, last: Attempt) -> bool:
        """Whether the last attempt is alive; if its process may exist, that is looked at for a while."""
        look_again(self.path)
        if last.alive():
            return True
        return last.path.is_dir() and last.provenance().process.exists() and moves(last.heartbeat_file)

    @staticmethod
    def _restarted(last: Attempt, provenance: Provenance) -> bool:
        """Whether the scheduler has started the last attempt's job again: then the attempt is dead."""
        before, now = last.provenance().environment.scheduler, provenance.environment.scheduler
        return before is not None and now is not None and before.job == now.job and before.restart < now.restart


@dataclass(frozen=True)
class Attempt:
    """One start of a cell: everything that this start writes lies in ``path``."""

    record: Record
    number: int

    @property
    def path(self) -> Path:
        """The folder of the attempt."""
        return self.record.path / "attempts" / str(self.number)

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, where there is one."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The checkpoint before the newest, for the case that the newest cannot be read."""
        return self.path / "checkpoint.previous.pt"

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """The two checkpoints, newest first, whether or not they exist."""
        return self.checkpoint, self.previous_checkpoint

    @property
    def encoder(self) -> Path:
        """The trained encoder of a finished attempt."""
        return self.path / ENCODER_NAME

    @property
    def events_file(self) -> Path:
        """The learning curve, a line of JSON for each event."""
        return self.path / EVENTS_NAME

    @property
    def heartbeat_file(self) -> Path:
        """The file that is touched while the attempt is alive; its content is the progress."""
        return self.path / "heartbeat"

    @property
    def provenance_file(self) -> Path:
        """The file that says which process began the attempt, with what code and on what hardware."""
        return self.path / "provenance.json"

    @property
    def outcome_file(self) -> Path:
        """The file that says how the attempt ended."""
        return self.path / "outcome.json"

    @property
    def stop_file(self) -> Path:
        """The file that exists once the attempt was asked to stop."""
        return self.path / "stop"

    def log(self, stream: str) -> Path:
        """The file of what the attempt has written to ``stdout`` or ``stderr``."""
        return self.path / f"{stream}.log"

    def provenance(self) -> Provenance:
        """How the attempt began; where the file is damaged or missing, nothing is known of it."""
        return read_if_whole(self.provenance_file, Provenance.from_json) or Provenance.from_json({})

    def outcome(self) -> Outcome | None:
        """How the attempt ended; None while it runs, where it was killed, and where the file is damaged."""
        return read_if_whole(self.outcome_file, Outcome.from_json)

    def checksums(self) -> dict[str, Checksum]:
        """Return the checksums of the curve and of the weights, as far as they are here, for the outcome.

        Raises:
            DamagedFile: one of them cannot be read.
        """
        files = [file for file in (self.events_file, self.encoder) if file.exists()]
        return {self.record.name_of(file): Checksum.of(file) for file in files}

    def outcome_now(self) -> Outcome | None:
        """Return the outcome as a shared file system has it now."""
        look_again(self.path)
        return self.outcome()

    def progress(self) -> TrainingProgress | None:
        """Return the progress that the attempt last wrote; None before its first step."""
        return read_if_whole(self.heartbeat_file, TrainingProgress.from_json)

    def holder(self) -> str:
        """Return which process runs the attempt, in words for a message."""
        process = self.provenance().process
        return f"attempt {self.number}, process {process.pid or '?'} on {process.host or '?'}"

    def alive(self) -> bool:
        """Whether the heartbeat has moved within STALE_SECONDS and, on this machine, the process exists."""
        return self.path.is_dir() and is_recent(self.age()) and self.provenance().process.exists()

    def age(self) -> float | None:
        """Return how many seconds ago the heartbeat moved, less than 0 in the future; None where the folder is gone."""
        runs = self.record.path.parent
        beaten = age(self.heartbeat_file, runs)
        return age(self.path, runs) if beaten is None else beaten

    def superseded(self) -> bool:
        """Whether a later attempt has begun, so that this one may write no more."""
        return (self.record.path / "attempts" / str(self.number + 1)).exists()

    def request_stop(self, cause: str) -> None:
        """Ask the process that computes this attempt, on whatever machine, to write its checkpoint and end."""
        write_json(self.stop_file, {"cause": cause})

    def stop_requested(self) -> str:
        """The cause of a request to stop; empty where there is none."""
        return str((read_if_whole(self.stop_file, dict) or {}).get("cause", ""))

    def log_event(self, step: int, metrics: Mapping[str, float], epoch: int | None = None) -> bytes:
        """Append the event of now to the curve, and return the line (``append_event``)."""
        return append_event(self.events_file, Event(step, metrics, epoch, time.time()))

    def events(self, vouched: Checksum | None = None) -> Iterator[Event]:
        """Yield the events of the attempt's part of the curve (``read_events``).

        Raises:
            DamagedFile: the file cannot be read, or does not begin with what is ``vouched`` for.
        """
        return read_events(self.events_file, vouched)

    def fail(self, error: str, cause: str = "error", rank: int = 0) -> None:
        """End as failed: because of an error, because it diverged, or because memory was too small (out_of_memory).

        Ranks after the first only leave a note, and rank 0, which fails with them because it lost them, ends with the
        note's error: theirs came first.
        """
        note = self.path / "rank-error.json"
        if rank > 0:
            write_json(note, {"error": f"rank {rank}: {error}", "cause": cause})
            return
        first = read_if_whole(note, dict) or {"error": error, "cause": cause}
        self.end(Outcome("failed", cause=first["cause"], error=first["error"]))

    def end(self, outcome: Outcome) -> None:
        """Write how the attempt ended; a finished one is published, unless another was published before.

        Raises:
            Superseded: a later attempt has begun; nothing is published.
        """
        write_json(self.outcome_file, replace(outcome, attempt=self.number).to_json())
        if not outcome.finished:
            return
        if self.superseded():
            raise Superseded(self.holder())
        self.publish()

    def publish(self) -> None:
        """Publish this attempt's outcome as the cell's, which is done only once.

        Raises:
            Superseded: another attempt's was published before.
        """
        published = self.record.outcome_file
        try:
            link(self.outcome_file, published)
        except FileExistsError:
            if published.read_bytes() != self.outcome_file.read_bytes():  # without hard links it is a copy
                raise Superseded(self.holder()) from None


def added_evaluation(content: Json) -> Json:
    """Return the content of an added evaluation, if it has metrics; else it is a KeyError or a TypeError."""
    if not all(isinstance(value, float | int) for value in content["metrics"].values()):
        raise TypeError("metrics are numbers")
    return content
