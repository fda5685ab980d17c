"""The damage matrix of a sweep on a cluster: its ledger, its job arrays, the last answer of the queue, its lock.

Of three cells one has finished, one has failed and one waits in the queue of a Slurm that is played. Required of every
case: no verb ends with an error, the finished cell is not touched, and in the end every cell has finished exactly once:
with the job that waited, or with one that the same sweep submits again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from harness.store.record import Busy, Record
from harness.sweep.cluster import SubmittedSweep
from tests.faults.damage import LOCKED_SECONDS, Case, content, quick_to_call_dead
from tests.support.fake_slurm import FakeSlurm, sweep_of
from tests.support.results import harness
from tests.support.tiny import TINY
from tests.support.ways_of_damage import PLAIN, WAYS, file, folder, removed

LEDGER = "sweeps/tiny.demo.1"
LOCK = "sweeps/submitting"
FILES = (
    *(f"{LEDGER}/{name}" for name in ("sweep.json", "manifest.json", "batches/1.json", "queue.json")),
    *(f"{LOCK}/attempts/1/{name}" for name in ("provenance.json", "outcome.json")),
)
CASES = [
    *(Case("ledger", name, way) for name in FILES for way in WAYS),
    *(Case("ledger", f"{LEDGER}/{name}", way) for name in ("batches", "failures") for way in (file, folder, removed)),
    *(Case("ledger", f"{LOCK}/{name}", way) for name in ("attempts", "attempts/1") for way in (file, folder, removed)),
    *(Case("ledger", LEDGER, way) for way in (file, removed)),
    *(Case("ledger", LOCK, removed),),
    *(Case("queued", name, way) for name in ("cell.json", "submission.json") for way in WAYS),
    *(Case("queued", name, way) for name in ("", "attempts") for way in (file, folder, removed)),
]  # fmt: skip
#: What status must name while the cell waits; it asks the queue, and so writes the last answer anew.
NAMED = {
    *(("ledger", f"{LEDGER}/{name}", way) for name in ("sweep.json", "batches/1.json") for way in PLAIN),
    *(("ledger", f"{LEDGER}/{name}", file) for name in ("batches", "failures")),
}


@contextmanager
def cluster(path: Path) -> Iterator[tuple[FakeSlurm, pytest.MonkeyPatch]]:
    """A Slurm that is played, in a folder with an experiment."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "tiny.yaml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        yield FakeSlurm(patch), patch


def check(case: Case, path: Path) -> str:
    """Check a case in this folder; return what is said about the damaged file."""
    with cluster(path) as (slurm, patch), quick_to_call_dead():
        results = path / "results"
        sweep = sweep_of(path / "tiny.yaml", patch)
        sweep.submit(sweep.declared.plan.entries)
        finished, failed, queued = (entry.record for entry in sweep.declared.plan.entries)
        tasks = dict(zip((finished, failed, queued), slurm.statuses, strict=True))
        slurm.run(finished, tasks[finished], "ok")
        slurm.run(failed, tasks[failed], "error")
        assert harness("status", results=results)[0] == 0
        before = content(finished)
        place = (queued.path if case.cell == "queued" else results) / case.file
        case.way(place)
        code, printed = harness("status", results=results)
        assert code == 0, printed
        named = next((line.strip() for line in printed.splitlines() if str(place) in line), "")
        if (case.cell, case.file, case.way) in NAMED:
            assert named, printed
        _, found = harness("fsck", results=results)
        named = named or next((line for line in found.splitlines() if str(place) in line), "")
        for words in (["retry", "tiny.demo", "--yes"], ["cancel", "loss=infonce"]):
            with suppress(SystemExit):
                harness(*words, results=results)
        time.sleep(LOCKED_SECONDS if LOCK in case.file else 0)  # of a holder that is not known
        _finish(again(sweep), slurm, tasks)
        assert content(finished) == before
        for record in (finished, failed, queued):
            outcome = record.outcome()
            assert outcome, record
            assert sum(bool(end and end.finished) for end in (each.outcome() for each in record.attempts())) == 1
        return named


def again(before: SubmittedSweep) -> SubmittedSweep:
    """Return the same sweep, as it is planned now."""
    declared = replace(before.declared, plan=before.declared.plan_now())
    declared.set_damage_aside()
    return SubmittedSweep(declared, before.results, before.submission, before.again)


def _finish(sweep: SubmittedSweep, slurm: FakeSlurm, tasks: dict[Record, str]) -> None:
    """Submit what is missing, then let all jobs run: those of the first sweep, and those that were submitted since."""
    slurm.acts = ["ok", "ok", "ok"]
    sweep.submit(sweep.declared.plan.to_run())
    for record, task in tasks.items():
        with suppress(Busy):  # it has finished: such a job ends at once
            if record.path.exists() and record.submission():
                slurm.run(record, task, "ok")
