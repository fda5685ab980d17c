"""The damage matrix: every file of the results and of the cache, damaged in seven ways, then the verbs.

For each case a folder with two finished cells and one that was stopped in the middle, or was submitted and has not
begun, is copied, one file is damaged, and ``status``, ``fsck``, a plan and a report are made. Then a sweep goes on.
Required of every case: no error, no other cell touched, and all cells finished in the end with the metrics, the curve
and the weights of an undisturbed sweep.

Sweeps that run meanwhile are damaged in ``damage_running.py``, MLflow's copy in ``damage_mirror.py``, sweeps on a
cluster in ``damage_submitted.py``; ``damage_table.py`` prints what comes of all of them.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from harness.cli.shared.load_experiment import load
from harness.cli.shared.plan_text import damages
from harness.manifest import Manifest
from harness.ssl import train
from harness.ssl.attempt import run_cell
from harness.ssl.methods.batch import Batch
from harness.store import signs_of_life
from harness.store.maintenance.fsck import damages_of_record
from harness.store.maintenance.repair import reopen
from harness.store.record import ENCODER_NAME, Busy, Record
from harness.store.sweeps.job_arrays import JobArrays, JobStatus, Queue
from harness.store.sweeps.ledger import Ledger, Policy
from harness.study.frame import tidy
from harness.sweep.launch import Declared
from harness.sweep.run import supervisor
from tests.support.results import harness
from tests.support.tiny import TINY
from tests.support.ways_of_damage import (
    PLAIN,
    WAYS,
    emptied,
    file,
    flipped,
    folder,
    halved,
    removed,
    wrong_fields,
    wrong_type,
)

OVERRIDES = ["axes.seed=[0,1,2]", "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[3]"]
#: The step, in the second epoch, after which the third cell was stopped.
STOPPED = 33
NAME = "tiny.demo"
#: How long a process that is not known counts as alive, instead of two minutes.
LOCKED_SECONDS = 0.3
#: What each cell has computed, by its id.
Numbers = dict[str, dict[str, object]]


ATTEMPT = (
    "events.jsonl",
    "provenance.json",
    "outcome.json",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "heartbeat",
    "stderr.log",
)
EVALUATION = "evaluations/later.json"
OF_FINISHED = (
    "cell.json",
    "submission.json",
    "outcome.json",
    EVALUATION,
    *(f"attempts/1/{name}" for name in (*ATTEMPT, ENCODER_NAME)),
)
OF_HALF = ("cell.json", "submission.json", *(f"attempts/1/{name}" for name in ATTEMPT))
OF_MISSING = ("cell.json", "submission.json")
OF_SWEEP = (
    f"manifests/{NAME}.json",
    *(f"sweeps/{NAME}.1/{name}" for name in ("sweep.json", "manifest.json", "heartbeat")),
    *(f"sweeps/{NAME}.1/{name}" for name in ("finished", "stopped.json", f"failures/{'0' * 12}.json")),
    *(f"sweeps/{NAME}.2/{name}" for name in ("batches/1.json", "queue.json")),
)
#: Below the folder of the cache; each pattern fits one file.
OF_CACHE = ("records/*.json", "fingerprints/*.json")


class Case(NamedTuple):
    """A file and what is done to it.

    ``cell``: finished, half or missing, where ``file`` lies below its record; sweep, where it lies below the results;
    or cache.
    """

    cell: str
    file: str
    way: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.cell}-{self.file}-{self.way.__name__}"


CASES = [
    *(Case("finished", name, way) for name in OF_FINISHED for way in WAYS),
    *(Case("half", name, way) for name in OF_HALF for way in WAYS),
    *(Case("sweep", name, way) for name in OF_SWEEP for way in WAYS),
    *(Case(cell, name, file) for cell in ("finished", "half") for name in ("", "attempts", "attempts/1")),
    *(Case("sweep", f"sweeps/{name}", file) for name in (f"{NAME}.1/failures", f"{NAME}.2/batches")),
    *(Case("missing", name, way) for name in OF_MISSING for way in WAYS),
    *(Case("missing", name, way) for name in ("", "attempts") for way in (file, folder, removed)),
    *(Case("cache", name, way) for name in OF_CACHE for way in WAYS),
]
#: What must be named before anything goes on: a result depends on these files, and they are read then.
NAMED = {
    *(
        ("finished", name, way)
        for name in ("outcome.json", "attempts/1/events.jsonl")
        for way in WAYS
        if way is not removed
    ),
    ("finished", "attempts/1/events.jsonl", removed),
    *(("finished", "attempts/1/provenance.json", way) for way in (emptied, halved, flipped, folder, wrong_type)),
    *(("finished", f"attempts/1/{ENCODER_NAME}", way) for way in (emptied, halved, folder, wrong_type, wrong_fields)),
    *((cell, "cell.json", way) for cell in ("finished", "half", "missing") for way in WAYS),
    *((cell, name, file) for cell in ("finished", "half", "missing") for name in ("", "attempts")),
    *(("sweep", f"sweeps/{NAME}.1/sweep.json", way) for way in PLAIN),
}
#: What fsck must name besides: it reads every byte.
FOUND = {
    *(
        ("finished", name, way)
        for name in (EVALUATION, "attempts/1/checkpoint.pt")
        for way in (emptied, halved, wrong_type)
    ),
    *(
        ("half", f"attempts/1/{name}", way)
        for name in ("checkpoint.pt", "checkpoint.previous.pt")
        for way in (emptied, halved, flipped)
    ),
    *((cell, "submission.json", way) for cell in ("finished", "half", "missing") for way in PLAIN),
    *(("sweep", name, way) for name in OF_SWEEP if name.endswith(".json") for way in PLAIN),
    *(("sweep", f"sweeps/{name}", file) for name in (f"{NAME}.1/failures", f"{NAME}.2/batches")),
}
#: What is named by the attempt that goes on: it is read only then.
NOTED = {
    *(("half", "attempts/1/checkpoint.pt", way) for way in WAYS if way is not removed),
    *(("half", "attempts/1/events.jsonl", way) for way in WAYS),
}


@dataclass(frozen=True)
class Results:
    """A folder with an experiment and its results; ``half``: the id of the cell that was stopped."""

    path: Path

    @property
    def results(self) -> Path:
        return self.path / "results"

    def declared(self) -> Declared:
        return load(str(self.path / "tiny.yaml"), OVERRIDES, self.results)

    def records(self) -> list[Record]:
        return [entry.record for entry in self.declared().plan.entries]

    def copy(self, to: Path) -> Results:
        """Copy it with the hard links in it, and with a cache of its own."""
        os.makedirs(to)
        os.system(f"cp -a {self.path}/. {to}")
        os.environ["XDG_CACHE_HOME"] = str(to / "cache")
        return Results(to)

    def go_on(self) -> list[str]:
        """Do what a sweep does, without its processes; return what it says about damaged files."""
        declared = self.declared()
        said = list(damages(declared.plan, declared.manifest.varying))
        declared.set_damage_aside()
        declared.manifest.write(self.results)
        for entry in declared.plan.to_run():
            task = declared.task(entry, declared.submission())
            record = task.job(task.submission).prepare()
            record.submit(task.submission)
            with suppress(Busy):  # it only had to be published again
                run_cell(record)
        return said


def prepare(path: Path) -> Results:
    """Two finished cells, and one that was stopped in its second epoch."""
    path.mkdir(exist_ok=True)
    (path / "tiny.yaml").write_text(TINY.partition("claims:")[0] + "scales:\n  demo: {}\n")
    os.environ["XDG_CACHE_HOME"] = str(path / "cache")
    torch.set_num_threads(1)
    results = Results(path)
    with stopped_at(results.records()[2], STOPPED), suppress(train.Interrupted):
        results.go_on()
    declared = results.declared()
    ledger = Ledger.open(results.results, NAME, Policy())
    declared.manifest.save(ledger.manifest)
    ledger.finished(results.records()[0].cell_id)
    ledger.failed("0" * 12, "error", "of a cell that is declared no more", final=True)
    ledger.stop("it was enough")
    results.records()[0].add_evaluation(Path(EVALUATION).stem, {"metrics": {"test_knn": 50.0}})
    submitted = JobArrays(Ledger.open(results.results, NAME, Policy(), cluster={"scheduler": "slurm"}).path)
    submitted.write(replace(submitted.add([[results.records()[2].cell_id]]), job="7"))
    submitted.write_queue(Queue(time.time(), 3600, {"7": JobStatus("COMPLETED")}, settled=True))
    for record in results.records():  # as if it had been a while ago
        os.utime(record.attempts()[0].heartbeat_file, (0, 0))
    return results


@contextmanager
def stopped_at(record: Record, last_step: int) -> Iterator[None]:
    """Let the training of one cell be asked to stop at this step."""
    update = train.Trainer.update

    def stopping(self: train.Trainer, batch: Batch) -> None:
        if self.attempt.record == record and self.step == last_step - 1:
            self.heartbeat.stop = "signal"
        update(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Trainer, "update", stopping)
        yield


@contextmanager
def quick_to_call_dead() -> Iterator[pytest.MonkeyPatch]:
    """Let an attempt whose process is not known be dead after a moment, and not after minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signs_of_life, "STALE_SECONDS", LOCKED_SECONDS)
        patch.setattr(signs_of_life, "WATCH_SECONDS", 0.0)
        patch.setattr(supervisor, "HELD_SECONDS", 0.1)
        yield patch


def numbers(record: Record) -> dict[str, object]:
    """The metrics, the curve and the weights of a finished cell."""
    outcome, weights = record.outcome(), record.whole_encoder()
    assert outcome
    curve = [
        (event.step, {name: value for name, value in event.metrics.items() if name != "samples_per_second"})
        for event in record.events()
    ]
    tensors = {name: value.tolist() for name, value in load_file(weights).items()} if weights else None
    test_knn = outcome.metrics["test_knn"]
    return {"test_knn": test_knn, "metrics": outcome.metrics, "curve": curve, "weights": tensors}


def content(record: Record) -> dict[str, bytes]:
    """All files of a record but those that only tell how it went."""
    files = [path for path in record.path.rglob("*") if path.is_file()]
    return {path.relative_to(record.path).as_posix(): path.read_bytes() for path in files}


def harm(results: Results, case: Case) -> Record | None:
    """Damage the file of a case; return the record that it belongs to."""
    record = record_of(results, case)
    if record and case.cell == "missing":
        removed(record.path / "attempts/1")
    if case.cell == "cache":
        look(results)  # so that there is one
    for path in place(results, case, record):
        case.way(path)
    return record


def record_of(results: Results, case: Case) -> Record | None:
    """Return the record that the file of a case belongs to."""
    finished, _, half = results.records()
    return {"finished": finished, "half": half, "missing": half}.get(case.cell)


def place(results: Results, case: Case, record: Record | None) -> list[Path]:
    """Return the file of a case; of the cache all files that fit."""
    if case.cell == "cache":
        files = list((results.path / "cache/harness").glob(case.file))
        assert files, case.file
        return files
    return [(record.path if record else results.results) / case.file]


class Look(NamedTuple):
    """What is seen of the results: what status says, what fsck finds by file, and the accuracies in a table."""

    status: str
    found: dict[str, str]
    accuracies: dict[str, float]


def look(results: Results) -> Look:
    """Look with status, fsck and a table of the results, after a plan was made as well."""
    with redirect_stdout(io.StringIO()):
        declared = results.declared()
    code, said = harness("status", results=results.results)
    assert code == 0, said
    code, printed = harness("fsck", "--json", results=results.results)
    found = {damage["file"]: damage["what"] for damage in json.loads(printed)["damaged"]}
    assert code == bool(found), printed
    accuracies: dict[str, float] = {}
    with suppress_damaged_manifest(results):
        frame = tidy(Manifest.read(results.results, NAME), results.results).frame
        assert len(frame) == len(declared.plan.entries)
        accuracies = frame.set_index("cell_id")["test_knn"].dropna().to_dict()
    return Look(said, found, accuracies)


@contextmanager
def suppress_damaged_manifest(results: Results) -> Iterator[None]:
    """Without a manifest there is no report; what is wrong with it is the status's to say."""
    readable, _ = Manifest.all_of(results.results)
    if readable:
        yield
    else:
        with suppress(Exception):
            yield


def check_look(results: Results, case: Case, calm: Numbers) -> str:
    """Check what can be seen before anything goes on; return what is said about the damaged file."""
    record = harm(results, case)
    others = {other.cell_id: content(other) for other in results.records() if other != record}
    seen = look(results)
    for cell_id, accuracy in seen.accuracies.items():
        assert accuracy == calm[cell_id]["test_knn"], cell_id
    path = str((record.path if record else results.results) / case.file)
    line = next((line.strip() for line in seen.status.splitlines() if path in line and "damaged" in line), "")
    if (case.cell, case.file, case.way) in NAMED:
        assert line, seen.status
    if (case.cell, case.file, case.way) in FOUND:
        assert path in seen.found, seen.found
    assert {other.cell_id: content(other) for other in results.records() if other != record} == others
    return line or seen.found.get(path, "")


def check_end(results: Results, case: Case, calm: Numbers) -> str:
    """Check a case to its end; return what was said about the damaged file, and where."""
    record = record_of(results, case)
    line = check_look(results, case, calm)
    whole = [other for other in results.records()[:2] if other != record]
    before = {other.cell_id: content(other) for other in whole}
    set_weights_aside(case, record)
    with quick_to_call_dead():
        results.go_on()
    for other in whole:
        assert content(other) == before[other.cell_id], f"{other.cell_id} was touched"
    check_numbers(results, calm, record)
    outcome = record.outcome() if record else None
    noted = next((note for note in outcome.notes if case.file in note), "") if outcome else ""
    if (case.cell, case.file, case.way) in NOTED:
        assert noted
    return line or noted


def set_weights_aside(case: Case, record: Record | None) -> None:
    """Do what ``harness fsck --set-aside`` does about damaged weights of a finished cell; a sweep leaves them."""
    if case.file.endswith(ENCODER_NAME) and record and any(damages_of_record(record)) and record.state() == "finished":
        reopen(record)


def check_numbers(results: Results, calm: Numbers, damaged: Record | None = None) -> None:
    """Check that all cells have finished with the numbers of undisturbed ones, but weights that were removed."""
    for each in results.records():
        end = numbers(each)
        if each == damaged and end["weights"] is None:  # they were removed: the numbers stand
            end["weights"] = calm[each.cell_id]["weights"]
        assert end == calm[each.cell_id], each.cell_id


def calm_numbers(results: Results, to: Path) -> Numbers:
    """The numbers of all cells where nothing is damaged."""
    undisturbed = results.copy(to)
    undisturbed.go_on()
    return {record.cell_id: numbers(record) for record in undisturbed.records()}
