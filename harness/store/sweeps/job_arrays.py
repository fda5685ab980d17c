"""The job arrays of a sweep in a scheduler's queue, and the states that the scheduler last gave.

::

    results/sweeps/<experiment>.<scale>.<n>/
        batches/<n>.json         one submission: its cells by task, its name there, its job's id once it is known
        queue.json               when the scheduler was last asked, when it may be asked again, and its answer

A batch is written before it is submitted, its id after; a name tells it apart from any other, so that a batch whose
submitter died between the two is found in the queue. A task's id is the job's, or ``<job>_<task>`` in an array.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.errors import DamagedFile
from harness.files import Json, make_folder, read_as, read_if_whole, write_json
from harness.store.signs_of_life import file_system_time

#: The states of jobs that are over; in any other state a job may still run, also after a node failed.
OVER = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
#: The state of a job of which the scheduler knows nothing any more.
GONE = "GONE"
#: The key of ``Queue.statuses`` in its file.
STATUSES_KEY = "said"


@dataclass(frozen=True)
class JobStatus:
    """The state that the scheduler gives a task, and why the task waits or how it ended."""

    state: str
    why: str = ""

    @property
    def over(self) -> bool:
        """Whether the job has ended or is no longer known to the scheduler."""
        return self.state in OVER or self.state == GONE


@dataclass(frozen=True)
class JobArray:
    """One job array; ``tasks``: the cell ids of each task; ``job``: empty until it has an id; ``failed``: why
    it has none."""

    number: int
    name: str
    tasks: Sequence[Sequence[str]]
    submitted: float
    job: str = ""
    failed: str = ""

    def task_id(self, task: int) -> str:
        """Return the scheduler's id of a task, by its place in ``tasks``; an array of one is a plain job."""
        return f"{self.job}_{task}" if len(self.tasks) > 1 else self.job


@dataclass(frozen=True)
class Queue:
    """What the scheduler answered last.

    ``asked``: when; ``pause``: for how many seconds it is not asked again; ``statuses``: by task id; ``settled``:
    whether the records have the outcome of every task that is over.
    """

    asked: float = 0.0
    pause: float = 0.0
    statuses: dict[str, JobStatus] = field(default_factory=dict)
    settled: bool = False


class JobArrays:
    """The batches of the sweep whose ledger lies in ``folder``; each file is read once, when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether the sweep goes through a scheduler."""
        return (self.folder / "batches").is_dir()

    @cached_property
    def all(self) -> list[JobArray]:
        """All job arrays, first to last."""
        arrays = (read_if_whole(self._file(number), _job_array) for number in self._numbers())
        return [array for array in arrays if array]

    def _numbers(self) -> list[int]:
        names = (path.stem for path in (self.folder / "batches").glob("*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _file(self, number: int) -> Path:
        return self.folder / "batches" / f"{number}.json"

    def damages(self) -> Iterator[DamagedFile]:
        """Yield the damaged files of the job arrays, or their folder, where something else lies in its place."""
        folder = self.folder / "batches"
        if folder.exists() and not folder.is_dir():
            yield DamagedFile(folder, "it is no folder")
        files = [(self._file(number), _job_array) for number in self._numbers()]
        for path, build in [*files, (self.folder / "queue.json", _queue)]:
            try:
                read_as(path, build)
            except DamagedFile as damaged:
                yield damaged

    @cached_property
    def queue(self) -> Queue:
        """The scheduler's last answer; an empty one before the first, or where its file is damaged."""
        return read_if_whole(self.folder / "queue.json", _queue) or Queue()

    @cached_property
    def _task_of(self) -> dict[str, tuple[JobArray, int]]:
        """The last job array and task of each cell."""
        return {cell: (batch, task) for batch in self.all for task, cells in enumerate(batch.tasks) for cell in cells}

    def task_id(self, cell_id: str) -> str:
        """Return the id of the task that last had the cell; empty where none has, or where its job array has no id."""
        batch, task = self._task_of.get(cell_id, (None, 0))
        return batch.task_id(task) if batch and batch.job else ""

    def job_status(self, cell_id: str) -> JobStatus | None:
        """Return the last known status of the task that has this cell; None where there is none.

        A job array that was submitted after the last answer waits; one without an id may still be in the queue.
        """
        batch, task = self._task_of.get(cell_id, (None, 0))
        if batch is None or batch.failed:
            return None
        if not batch.job or batch.submitted > self.queue.asked:
            return JobStatus("PENDING", "submitted")
        return self.queue.statuses.get(batch.task_id(task), JobStatus("PENDING", "submitted"))

    def open_cells(self) -> Iterator[str]:
        """Yield the cells whose task is not over, as far as is known."""
        return (cell for cell in self._task_of if (status := self.job_status(cell)) and not status.over)

    def add(self, tasks: Sequence[Sequence[str]]) -> JobArray:
        """Write down a job array that is about to be submitted; a sweep's folder has one submitter."""
        make_folder(self.folder / "batches")
        number = max(self._numbers(), default=0) + 1
        batch = JobArray(
            number, f"{self.folder.name}-{number}-{secrets.token_hex(3)}", tasks, file_system_time(self.folder)
        )
        self.write(batch)
        return batch

    def write(self, batch: JobArray) -> None:
        """Write the job array's file, new or again."""
        write_json(self._file(batch.number), dataclasses.asdict(batch))
        self.forget()

    def write_queue(self, queue: Queue) -> None:
        """Write down what the scheduler answered."""
        statuses = {task: [status.state, status.why] for task, status in queue.statuses.items()}
        figures = {"asked": queue.asked, "pause": queue.pause, "settled": queue.settled}
        write_json(self.folder / "queue.json", {**figures, STATUSES_KEY: statuses})
        self.forget()

    def forget(self) -> None:
        """Forget what was read, so that it is read again."""
        for name in ("all", "queue", "_task_of"):
            self.__dict__.pop(name, None)


def _job_array(content: Json) -> JobArray:
    array = JobArray(**content)
    if not all(isinstance(task, list) and all(isinstance(cell, str) for cell in task) for task in array.tasks):
        raise TypeError("tasks are lists of cell ids")
    return array


def _queue(content: Json) -> Queue:
    statuses = {task: JobStatus(*state) for task, state in content.get(STATUSES_KEY, {}).items()}
    return Queue(content.get("asked", 0.0), content.get("pause", 0.0), statuses, content.get("settled", False))
