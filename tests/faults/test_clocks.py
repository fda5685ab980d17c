"""Clocks that are an hour off, that are set while a cell runs, and file times of the future."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cell import Cell
from harness.environment.process import ProcessIdentity
from harness.manifest import Manifest
from harness.ssl.attempt import run_cell
from harness.store import signs_of_life
from harness.store.heartbeat import Heartbeat
from harness.store.outcome import Outcome
from harness.store.provenance import Provenance
from harness.store.record import Attempt, Busy, Record
from harness.store.signs_of_life import STALE_SECONDS
from harness.store.writer_lock import writer_lock
from harness.sweep.tracking import run_content
from tests.faults.damage import numbers
from tests.faults.machines import HANGS, SHIFTS, Machine, set_age, wait_until
from tests.support.prepared import prepared
from tests.support.results import METRICS, OUTCOME, Results, harness

ONE_CELL = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[1]"]
NO_STORE = ["--tracking-uri", "http://127.0.0.1:9"]
#: The process of a machine that cannot be seen from here.
ELSEWHERE = Provenance(process=ProcessIdentity("node7", "boot", 4711, "1"))
NEGATIVE = re.compile(r"(?<![\w.-])-\d+(\.\d+)? ?(s|second|minute|hour|day|MiB|KiB)")


@dataclass(frozen=True)
class Held:
    """A cell that a process of another machine computes."""

    folder: Path
    manifest: Manifest
    attempt: Attempt

    @property
    def record(self) -> Record:
        return self.attempt.record


@pytest.fixture
def held(tiny: Path) -> Held:
    manifest = prepared(tiny, ONE_CELL)
    record = Record(tiny.parent / "results" / "runs" / manifest.cells[0].cell_id)
    attempt = record.begin(ELSEWHERE)
    attempt.log_event(0, {"val_knn": 10.0}, epoch=0)
    return Held(tiny.parent, manifest, attempt)


def machine(folder: Path, shift: float) -> Machine:
    return Machine(folder / "machine", "node8").set_clock(shift)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if not path.name.startswith("."))


@contextmanager
def beating(attempt: Attempt, shift: float) -> Iterator[None]:
    """Beat as a process does whose files have the time of its own clock, which is wrong."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            attempt.heartbeat_file.touch()
            set_age(attempt.heartbeat_file, -shift)

    set_age(attempt.heartbeat_file, -shift)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.tried("clocks", "a cell runs, and a machine whose clock is an hour off looks at it and sweeps")
@pytest.mark.parametrize("shift", [3600, pytest.param(-3600, marks=pytest.mark.exhaustive)])
def test_a_living_cell_is_none_to_take_over_where_a_clock_is_wrong(held: Held, shift: int) -> None:
    other, before = machine(held.folder, shift), files_of(held.record.path)
    with Heartbeat(held.attempt):
        status = other.harness("status", cwd=held.folder)
        assert "1 running" in status.stdout, status.stdout + status.stderr
        assert not NEGATIVE.search(status.stdout), status.stdout
        assert "nothing to remove" in other.harness("gc", "--yes", cwd=held.folder).stdout
        sweep = other.sweep("tiny.yaml", *ONE_CELL, *NO_STORE, cwd=held.folder)
        wait_until(lambda: list(held.folder.glob("results/sweeps/*/heartbeat")))
        assert files_of(held.record.path) == before
    held.attempt.end(Outcome("finished", metrics=METRICS, evaluation=held.manifest.evaluation))
    output, errors = sweep.communicate(timeout=HANGS)
    assert sweep.returncode == 0, output + errors
    assert [attempt.number for attempt in held.record.attempts()] == [1]


@pytest.mark.tried("clocks", "a process died, with a heartbeat of the past or the future; a clock is an hour off")
@pytest.mark.parametrize(
    ("age", "shift"),
    [
        (3600, -3600),
        pytest.param(-3600, 3600, marks=pytest.mark.exhaustive),
        pytest.param(-3600, 0, marks=pytest.mark.exhaustive),
        pytest.param(3600, 3600, marks=pytest.mark.exhaustive),
    ],
)
def test_a_dead_cell_is_taken_over_where_a_clock_is_wrong(held: Held, age: int, shift: int) -> None:
    set_age(held.attempt.heartbeat_file, age)
    other = machine(held.folder, shift)
    status = other.harness("status", cwd=held.folder)
    said = "given no sign of life for 60 minutes" if age > 0 else "is dated 60 minutes from now: a clock is wrong"
    assert said in status.stdout, status.stdout + status.stderr
    assert "process 4711 on node7" in status.stdout
    assert not NEGATIVE.search(status.stdout), status.stdout
    sweep = other.sweep("tiny.yaml", *ONE_CELL, *NO_STORE, cwd=held.folder)
    output, errors = sweep.communicate(timeout=HANGS)
    assert sweep.returncode == 0, output + errors
    outcome = held.record.outcome()
    assert outcome
    assert outcome.attempt == 2
    assert (outcome.seconds or 0) > 0


@pytest.mark.tried("clocks", "a cell runs, and its files have the times of a clock that is an hour off")
@pytest.mark.parametrize("shift", SHIFTS)
def test_what_moves_is_alive_whatever_its_time_says(
    held: Held, shift: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs_of_life, "WATCH_SECONDS", 100.0)
    locks = tmp_path / "locks"
    lock = Record.prepare(locks, Cell())
    with beating(held.attempt, shift):
        assert held.record.state() == "missing", "by its age it is dead"
        with pytest.raises(Busy, match="process 4711 on node7"):
            held.record.begin()
    with beating(lock.begin(ELSEWHERE), shift), pytest.raises(Busy, match="process 4711"), writer_lock(lock.path):
        pass
    assert len(held.record.attempts()) == len(lock.attempts()) == 1


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.tried("clocks", "the same, and another machine sweeps a cell of one or two ranks meanwhile")
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_sweep_waits_for_what_moves(tiny: Path, shift: int, ranks: int) -> None:
    tiny.write_text(f"{tiny.read_text()}resources:\n  - where: loss=dcl\n    gpus: {ranks}\n")
    manifest = prepared(tiny, ONE_CELL)
    record = Record(tiny.parent / "results" / "runs" / manifest.cells[0].cell_id)
    attempt = record.begin(ELSEWHERE)
    with beating(attempt, shift):
        before = attempt.path.stat().st_mtime_ns
        sweep = machine(tiny.parent, 0).sweep("tiny.yaml", *ONE_CELL, *NO_STORE, "cluster.slots=2", cwd=tiny.parent)
        wait_until(lambda: "submission.json" in {path.name for path in record.path.iterdir()})
        log = tiny.parent / "results" / "sweeps"
        wait_until(lambda: list(log.glob("*/heartbeat")))
        wait_until(lambda: attempt.path.stat().st_mtime_ns != before or sweep.poll() is not None)  # it is watched
        assert sweep.poll() is None
    attempt.end(Outcome("finished", metrics=METRICS, evaluation=manifest.evaluation))
    output, errors = sweep.communicate(timeout=HANGS)
    assert sweep.returncode == 0, output + errors
    assert "FAILED" not in output
    assert [each.number for each in record.attempts()] == [1]


@pytest.mark.tried("clocks", "the clock is set back by an hour, or ahead, while a cell runs")
@pytest.mark.parametrize("jump", [-3600, pytest.param(3600, marks=pytest.mark.exhaustive)])
def test_a_clock_that_is_set_while_a_cell_runs_changes_no_number(tiny: Path, jump: int) -> None:
    manifest = prepared(tiny, [*ONE_CELL, "axes.epochs=[12]"])
    record = Record(tiny.parent / "results" / "runs" / manifest.cells[0].cell_id)
    calm = Record.prepare(tiny.parent / "calm", record.cell())
    for each in (record, calm):
        (each.submission_file).write_text(json.dumps({"evaluation": vars(manifest.evaluation)}))
    clock = machine(tiny.parent, 0)
    with clock.start(sys.executable, "-m", "harness.ssl", str(record.path), cwd=tiny.parent) as process:
        wait_until(lambda: len(list(record.events())) > 1)
        clock.set_clock(jump)
        wait_until(lambda: process.poll() is not None or len(list(record.events())) > 3)
        assert record.state() in ("running", "finished")
        output, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 0, output + errors
    run_cell(calm)
    assert numbers(record) == numbers(calm)
    outcome, times = record.outcome(), [event.time or 0 for event in record.events()]
    assert outcome
    assert 0 < (outcome.seconds or 0) < 3600
    assert (times == sorted(times)) is (jump > 0), "the clock was set"
    started = 1000 * (record.attempts()[0].provenance().started_at or 0)
    mirrored = [point.milliseconds for point in run_content.points(manifest, record)]
    assert mirrored == sorted(mirrored)
    assert mirrored[0] >= int(started), "no run of MLflow lasts less than no time"


@pytest.mark.tried("clocks", "every file of a results folder is of tomorrow")
def test_files_of_tomorrow_change_no_state_and_cost_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = Results(tmp_path / "results")
    results.finish(results.cells[0])
    results.fail(results.cells[1])
    dead = results.record(results.cells[2]).begin(ELSEWHERE)
    set_age(dead.heartbeat_file, 2 * STALE_SECONDS)
    before = {cell.cell_id: results.record(cell).state() for cell in results.cells}
    for path in results.path.rglob("*"):
        set_age(path, -86400)
    after = {cell.cell_id: results.record(cell).state() for cell in results.cells}
    assert after == before
    files = files_of(results.path)
    code, said = harness("status", results=results.path)
    assert (code, NEGATIVE.search(said)) == (0, None)
    assert "24.0 hours from now: a clock is wrong" in said
    code, said = harness("gc", "--yes", results=results.path)
    assert code == 0
    gone = set(files) - set(files_of(results.path))
    assert {Path(path).name for path in gone} == {"checkpoint.pt", "checkpoint.previous.pt"}
    assert all(results.cells[0].cell_id in path for path in gone), "a finished cell needs them no more"
    assert OUTCOME.metrics == results.record(results.cells[0]).outcome().metrics  # type: ignore[union-attr]


BOOT = """
import json, subprocess, sys
from pathlib import Path
from harness.environment.process import ProcessIdentity

here = ProcessIdentity.current()
assert here.exists()
lines = Path("/proc/stat").read_text().splitlines()
changed = [f"btime {int(line.split()[1]) + 3600}" if line.startswith("btime") else line for line in lines]
Path(sys.argv[1]).write_text("\\n".join(changed) + "\\n")
subprocess.run(["mount", "--bind", sys.argv[1], "/proc/stat"], check=True)
print(here.exists(), here == ProcessIdentity.current())
"""


@pytest.mark.tried("clocks", "the clock is set, and with it the boot time of which Linux tells; needs the superuser")
def test_a_process_is_the_same_after_the_clock_was_set(tmp_path: Path) -> None:
    private = ["unshare", "--mount", sys.executable, "-c"]
    if subprocess.run([*private, "pass"], capture_output=True, check=False).returncode:
        pytest.skip("this user cannot have mounts of its own")
    done = subprocess.run([*private, BOOT, str(tmp_path / "stat")], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr
