"""The damage matrix of a sweep that is running: a file is damaged after its cells were submitted.

One cell had finished before the sweep began; the sweep computes a new cell, then one that was stopped in the middle.
Required of every case: the sweep ends without an error, and has finished all cells that are not damaged; in the end all
cells have the numbers of undisturbed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from harness.ssl import train
from harness.ssl.methods.batch import Batch
from harness.ssl.worker import FAILED, attempt
from harness.store.record import ENCODER_NAME, Record
from harness.store.sweeps.ledger import Ledger
from harness.sweep.run.scheduler import Job, JobInfo, JobState
from harness.sweep.run.supervisor import TaskState, supervise
from tests.faults.damage import (
    NAME,
    NAMED,
    STOPPED,
    Case,
    Numbers,
    Results,
    check_numbers,
    content,
    quick_to_call_dead,
    set_weights_aside,
)
from tests.support.results import harness
from tests.support.ways_of_damage import WAYS, emptied, file, flipped, folder, halved, removed, wrong_fields

#: The ledger of the sweep that is running; two were there before.
LEDGER = f"sweeps/{NAME}.3"
#: Whole folders: of a record, of its attempts, of one attempt.
FOLDERS = ("", "attempts", "attempts/1")

#: ``cell``: finished before the sweep began, ended before the sweep has looked at it, running, queued; or sweep.
CASES = [
    *(Case("finished", name, way) for name in ("outcome.json", "attempts/1/events.jsonl") for way in WAYS),
    *(Case("finished", name, flipped) for name in ("cell.json", "submission.json", f"attempts/1/{ENCODER_NAME}")),
    *(Case("finished", name, way) for name in FOLDERS for way in (file, removed)),
    *(Case("ended", name, way) for name in ("outcome.json", "attempts/1/outcome.json") for way in WAYS),
    *(Case("ended", name, halved) for name in ("cell.json", "submission.json", "attempts/1/events.jsonl")),
    *(Case("ended", name, way) for name in FOLDERS for way in (file, folder, removed)),
    *(Case("running", "attempts/1/events.jsonl", way) for way in WAYS),
    *(Case("running", "attempts/1/checkpoint.pt", way) for way in (halved, flipped, folder)),
    *(Case("running", f"attempts/1/{name}", folder) for name in ("provenance.json", "heartbeat")),
    *(Case("running", name, way) for name in ("cell.json", "submission.json") for way in (emptied, folder)),
    *(Case("running", name, way) for name in FOLDERS for way in (file, folder, removed)),
    *(Case("queued", name, way) for name in ("cell.json", "submission.json") for way in WAYS),
    *(Case("queued", f"attempts/1/{name}", folder) for name in ("outcome.json", "provenance.json")),
    *(Case("queued", "attempts/1/checkpoint.pt", way) for way in (halved, flipped)),
    *(Case("queued", name, way) for name in FOLDERS for way in (file, folder, removed)),
    *(Case("sweep", f"{LEDGER}/sweep.json", way) for way in WAYS),
    *(Case("sweep", f"{LEDGER}/{name}", way) for name in ("failures", "finished") for way in (file, folder, removed)),
    *(Case("sweep", f"{LEDGER}/{name}", way) for name in ("heartbeat", "manifest.json") for way in (folder, removed)),
    *(Case("sweep", f"manifests/{NAME}.json", way) for way in (halved, folder, wrong_fields)),
]  # fmt: skip


class Here:
    """A scheduler that computes one cell at a time in this process; ``before`` and ``after`` are called with its id."""

    def __init__(self, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self.before, self.after = before, after
        self.queue: dict[str, Job] = {}
        self.over: dict[str, JobInfo] = {}

    def script(self, job: Job) -> str:
        return "true"

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        ids = [str(len(self.over) + len(self.queue) + number) for number in range(len(jobs))]
        self.queue |= dict(zip(ids, jobs, strict=True))
        return ids

    def status(self, ids: Collection[str], timeout: float = 0.0) -> Mapping[str, JobInfo]:
        if timeout and self.queue:
            job_id = next(iter(self.queue))
            job = self.queue.pop(job_id)
            self.before(job.record.name)
            code, reason = attempt(Record(job.record), job.submission)
            self.after(job.record.name)
            self.over[job_id] = JobInfo(JobState.FAILED, reason) if code == FAILED else JobInfo(JobState.DONE)
        return {job_id: self.over.get(job_id, JobInfo(JobState.PENDING)) for job_id in ids}

    def cancel(self, ids: Collection[str], at_once: bool = False) -> None:
        self.queue = {job_id: job for job_id, job in self.queue.items() if job_id not in ids}


def record_at(results: Results, case: Case) -> Path | None:
    """Return the record that the file of a case belongs to."""
    finished, new, half = results.records()
    record = {"finished": finished, "ended": new, "running": new, "queued": half}.get(case.cell)
    return record.path if record else None


def run(results: Results, case: Case) -> list[TaskState]:
    """Run a sweep and damage a file meanwhile; return what became of its cells."""
    _, new, half = results.records()
    removed(new.path)
    declared = results.declared()
    tasks = [declared.task(entry, declared.submission()) for entry in declared.plan.to_run()]
    assert [task.record for task in tasks] == [new, half]
    left = [(record_at(results, case) or results.results) / case.file]
    ledger = Ledger.open(results.results, NAME, declared.declaration.failures)
    declared.manifest.save(ledger.manifest)
    assert ledger.path == results.results / LEDGER

    def damage() -> None:
        if left and (left[0].exists() or case.way is not removed):
            case.way(left.pop())

    def before(cell_id: str) -> None:
        if case.cell in ("finished", "queued") or (case.cell == "sweep" and cell_id == half.cell_id):
            damage()

    def after(cell_id: str) -> None:
        if case.cell == "ended" and cell_id == new.cell_id:
            damage()

    update = train.Trainer.update

    def updating(self: train.Trainer, batch: Batch) -> None:
        if case.cell == "running" and self.attempt.record == new and self.step == STOPPED:
            damage()
        update(self, batch)

    with quick_to_call_dead() as patch:
        patch.setattr(train.Trainer, "update", updating)
        return supervise(tasks, Here(before, after), ledger, lambda closed, running: None)


def check_running(results: Results, case: Case, calm: Numbers) -> str:
    """Check a case; return what the sweep says of the cell, or what status says of the file."""
    first = results.records()[0]
    before = content(first)
    watched = run(results, case)
    ends = {state.task.record.cell_id: state for state in watched}
    _, new, half = results.records()
    damaged = {"ended": new, "running": new, "queued": half}.get(case.cell)
    for record in (new, half):
        assert ends[record.cell_id].finished or record == damaged, ends[record.cell_id].ended
    if case.cell != "finished":
        assert content(first) == before
    said = ends[damaged.cell_id].ended if damaged and not ends[damaged.cell_id].finished else ""
    place = str((record_at(results, case) or results.results) / case.file)
    code, status = harness("status", results=results.results)
    assert code == 0, status
    said = said or next((line.strip() for line in status.splitlines() if place in line and "damaged" in line), "")
    if (case.cell, case.file, case.way) in NAMED:
        assert said, status
    set_weights_aside(case, first)
    with quick_to_call_dead():
        results.go_on()
    check_numbers(results, calm, first if case.cell == "finished" else None)
    return said
