"""The damage matrix: every file of a record, a manifest and a ledger, damaged in seven ways, then the verbs.

    python tests/faults/damage.py --table

For each case a folder with two finished cells and one that was stopped in the middle is copied, one file is damaged,
and ``status``, a plan and a report are made. Then a sweep goes on. Required of every case: no error, no other cell
touched, and all cells finished in the end with the metrics, the curve and the weights of an undisturbed sweep.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
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
from harness.store.maintenance.fsck import damages_of_record
from harness.store.maintenance.repair import reopen
from harness.store.record import ENCODER_NAME, Busy, Record
from harness.store.sweeps.ledger import Ledger, Policy
from harness.study.frame import tidy
from harness.sweep.launch import Declared
from tests.support.results import harness
from tests.support.tiny import TINY
from tests.support.ways_of_damage import WAYS, emptied, file, flipped, folder, halved, removed, wrong_fields, wrong_type

OVERRIDES = ["axes.seed=[0,1,2]", "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[3]"]
#: The step, in the second epoch, after which the third cell was stopped.
STOPPED = 33
NAME = "tiny.demo"
FAILED = "FAILED"


ATTEMPT = ("events.jsonl", "provenance.json", "outcome.json", "checkpoint.pt", "checkpoint.previous.pt")
OF_FINISHED = (
    "cell.json",
    "submission.json",
    "outcome.json",
    *(f"attempts/1/{name}" for name in (*ATTEMPT, ENCODER_NAME)),
)
OF_HALF = ("cell.json", "submission.json", *(f"attempts/1/{name}" for name in ATTEMPT))
OF_SWEEP = (
    f"manifests/{NAME}.json",
    *(f"sweeps/{NAME}.1/{name}" for name in ("sweep.json", "manifest.json", "heartbeat")),
)


class Case(NamedTuple):
    """``cell``: finished, half, or nothing for a file of the sweep; ``file``: below the record or the results."""

    cell: str
    file: str
    way: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.cell or 'sweep'}-{self.file}-{self.way.__name__}"


CASES = [
    *(Case("finished", name, way) for name in OF_FINISHED for way in WAYS),
    *(Case("half", name, way) for name in OF_HALF for way in WAYS),
    *(Case("", name, way) for name in OF_SWEEP for way in WAYS),
    *(Case(cell, name, file) for cell in ("finished", "half") for name in ("", "attempts", "attempts/1")),
    Case("", f"sweeps/{NAME}.1/failures", file),
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
    *((cell, "cell.json", way) for cell in ("finished", "half") for way in WAYS),
    *((cell, name, file) for cell in ("finished", "half") for name in ("", "attempts")),
    *(("", f"sweeps/{NAME}.1/sweep.json", way) for way in (emptied, halved, flipped, folder, wrong_type)),
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


def numbers(record: Record) -> dict[str, object]:
    """The metrics, the curve and the weights of a finished cell."""
    outcome, weights = record.outcome(), record.whole_encoder()
    assert outcome
    curve = [
        (event.step, {name: value for name, value in event.metrics.items() if name != "samples_per_second"})
        for event in record.events()
    ]
    tensors = {name: value.tolist() for name, value in load_file(weights).items()} if weights else None
    return {"metrics": outcome.metrics, "curve": curve, "weights": tensors}


def content(record: Record) -> dict[str, bytes]:
    """All files of a record but those that only tell how it went."""
    files = [path for path in record.path.rglob("*") if path.is_file()]
    return {path.relative_to(record.path).as_posix(): path.read_bytes() for path in files}


def harm(results: Results, case: Case) -> Record | None:
    """Damage the file of a case; return the record that it belongs to."""
    finished, _, half = results.records()
    record = {"finished": finished, "half": half}.get(case.cell)
    case.way((record.path if record else results.results) / case.file)
    return record


def look(results: Results) -> str:
    """Return what status says, after a plan and a table of the results were made as well."""
    with redirect_stdout(io.StringIO()):
        declared = results.declared()
    code, said = harness("status", results=results.results)
    assert code == 0, said
    with suppress_damaged_manifest(results):
        assert len(tidy(Manifest.read(results.results, NAME), results.results).frame) == len(declared.plan.entries)
    return said


@contextmanager
def suppress_damaged_manifest(results: Results) -> Iterator[None]:
    """Without a manifest there is no report; what is wrong with it is the status's to say."""
    readable, _ = Manifest.all_of(results.results)
    if readable:
        yield
    else:
        with suppress(Exception):
            yield


def check_look(results: Results, case: Case) -> str:
    """Check what can be seen before anything goes on; return what is said about the damaged file."""
    record = harm(results, case)
    others = {other.cell_id: content(other) for other in results.records() if other != record}
    said = look(results)
    path = str((record.path if record else results.results) / case.file)
    line = next((line.strip() for line in said.splitlines() if path in line and "damaged" in line), "")
    if (case.cell, case.file, case.way) in NAMED:
        assert line, said
    assert {other.cell_id: content(other) for other in results.records() if other != record} == others
    return line


def check_end(results: Results, case: Case, calm: dict[str, dict[str, object]]) -> str:
    """Check a case to its end; return what was said about the damaged file, and where."""
    line = check_look(results, case)
    record = Record(results.results / "runs" / _id_of(results, case)) if case.cell else None
    whole = [other for other in results.records()[:2] if other != record]
    before = {other.cell_id: content(other) for other in whole}
    if case.file.endswith(ENCODER_NAME) and record and any(damages_of_record(record)) and record.state() == "finished":
        line = line or "fsck"
        reopen(record)  # as harness fsck --set-aside does
    results.go_on()
    for other in whole:
        assert content(other) == before[other.cell_id], f"{other.cell_id} was touched"
    for each in results.records():
        end = numbers(each)
        if each == record and end["weights"] is None:  # they were removed: the numbers stand
            end["weights"] = calm[each.cell_id]["weights"]
        assert end == calm[each.cell_id], each.cell_id
    outcome = record.outcome() if record else None
    noted = next((note for note in outcome.notes if case.file in note), "") if outcome else ""
    if (case.cell, case.file, case.way) in NOTED:
        assert noted
    return line or noted


def _id_of(results: Results, case: Case) -> str:
    finished, _, half = results.records()
    return (finished if case.cell == "finished" else half).cell_id


def calm_numbers(results: Results, to: Path) -> dict[str, dict[str, object]]:
    """The numbers of all cells where nothing is damaged."""
    undisturbed = results.copy(to)
    undisturbed.go_on()
    return {record.cell_id: numbers(record) for record in undisturbed.records()}


def table(cases: list[Case], report: Callable[[Case], str]) -> str:
    """Return the table of docs/reliability.md: by file, who names it in how many of the ways."""
    rows: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        rows.setdefault((case.cell or "sweep", case.file or "."), []).append(report(case))
    lines = ["| cell | file | damages | ends the same | named |", "|---|---|---|---|---|"]
    for (cell, name), ends in rows.items():
        failed = [end for end in ends if end.startswith(FAILED)]
        same = f"{len(ends) - len(failed)}" + f", {FAILED} {len(failed)}" * bool(failed)
        named = sum(bool(end) for end in ends) - len(failed)
        lines.append(f"| {cell} | `{name}` | {len(ends)} | {same} | {named} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the table of docs/reliability.md")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    asked = parser.parse_args()
    cases = [case for case in CASES if asked.only in case.name]
    with tempfile.TemporaryDirectory() as place:
        results = prepare(Path(place) / "prepared")
        calm = calm_numbers(results, Path(place) / "calm")

        def report(case: Case) -> str:
            to = Path(place) / case.name.replace("/", "_")
            try:
                said = check_end(results.copy(to), case, calm)
            except Exception as error:  # noqa: BLE001  (the other cases are tried all the same)
                said = f"{FAILED} {type(error).__name__}: {str(error)[:500]}"
            print(f"{case.name}: {said or 'nothing is said'}", file=sys.stderr, flush=True)
            shutil.rmtree(to)
            return said

        printed = table(cases, report)
    print(printed)
    raise SystemExit(FAILED in printed)


if __name__ == "__main__":
    main()
