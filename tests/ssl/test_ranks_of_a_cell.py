"""A cell as several processes, started as the local scheduler starts them: real ranks, killed for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import plugins
from harness.catalog.losses import LOSSES
from harness.cell import Loss, Optimizer
from harness.ssl.attempt import run_cell
from harness.store.record import Record
from harness.store.submission import Submission
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.scheduler import Job
from harness.sweep.run.slots import Slots
from tests.support.training import numbers, wait_for_epoch

pytestmark = pytest.mark.ranks

MakeRecord = Callable[..., Record]


def of_two(record: Record) -> Submission:
    submission = record.submission()
    assert submission
    return replace(submission, run=replace(submission.run, world_size=2))


def start(record: Record) -> subprocess.Popen[bytes]:
    job = Job(record.path, record.cell(), "a cell", of_two(record))
    (script,) = LocalScheduler(Slots(2, 1, "cpu")).scripts([job])
    return subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)


def test_two_ranks_train_what_one_process_trains_and_resume_to_the_same_bits(make_record: MakeRecord) -> None:
    one, two, killed = (make_record(name, epochs=6, bn_groups=2) for name in ("one", "two", "killed"))
    run_cell(one)
    assert start(two).wait(200) == 0
    # Sums in another order: the last digits of fp32 differ, and grow with every step.
    first, second = ([event.metrics["loss"] for event in record.events()[1:]] for record in (one, two))
    assert first[0] == pytest.approx(second[0], rel=1e-4)
    assert first == pytest.approx(second, rel=0.02)
    outcome = two.outcome()
    assert outcome
    assert outcome.world_size == 2

    process = start(killed)
    wait_for_epoch(killed, 2)
    os.kill(killed.attempts()[0].provenance().process.pid, signal.SIGKILL)
    assert process.wait(100) != 0, "the other rank goes on without rank 0"
    assert killed.state() == "missing"
    assert start(killed).wait(200) == 0
    assert len(killed.attempts()) == 2
    assert numbers(killed) == numbers(two)


OWN = """
import torch

def centered(z1, z2, *, temperature=0.2, state):
    center = state.setdefault("center", torch.zeros(z1.shape[1]))
    logits = (z1 - center) @ (z2 - center).T / temperature
    drop = (torch.rand_like(logits) < 0.5) & ~torch.eye(len(z1), dtype=torch.bool)
    state["center"] = 0.9 * center + 0.1 * z1.detach().mean(0)
    return torch.nn.functional.cross_entropy(logits.masked_fill(drop, -1e4), torch.arange(len(z1)))
"""


def test_ranks_draw_and_keep_the_same_in_an_own_loss(make_record: MakeRecord, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    plugins.register([file])
    loss = Loss("centered", 0.2, source=LOSSES["centered"].source)
    one, two = (make_record(name, loss=loss, bn_groups=2) for name in ("one", "two"))
    for record in (one, two):
        submission = record.submission()
        assert submission
        record.submit(replace(submission, run=replace(submission.run, plugins=(str(file),))))
    run_cell(one)
    assert start(two).wait(200) == 0
    first, second = ([event.metrics["loss"] for event in record.events()[1:]] for record in (one, two))
    assert first[0] == pytest.approx(second[0], rel=1e-4)
    assert first == pytest.approx(second, rel=0.02)


def test_the_error_of_the_rank_that_failed_is_the_cells(make_record: MakeRecord, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import os\n"
        "def broken(z1, z2, *, temperature=0.1):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise ArithmeticError('the second rank stumbled')\n"
        "    return (z1 * z2).sum()\n"
    )
    before = dict(LOSSES)
    plugins.register([file])
    source = LOSSES["broken"].source
    LOSSES.clear()
    LOSSES.update(before)
    record = make_record(loss=Loss("broken", source=source))
    submission = of_two(record)
    record.submit(replace(submission, run=replace(submission.run, plugins=(str(file),))))
    assert start(record).wait(200) != 0
    assert record.state() == "failed"
    outcome = record.attempts()[0].outcome()
    assert outcome
    assert outcome.error == "rank 1: ArithmeticError: the second rank stumbled"


#: A rank that writes down, once its cell has ended, which threads it has left.
WITNESS = """
import os, signal, sys
from pathlib import Path
from harness.ssl.__main__ import main
code = main()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent by torchrun once the other rank has failed
names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
Path(__file__).with_name(os.environ["RANK"]).write_text(" ".join(names))
sys.exit(code)
"""


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_a_group_ends_with_its_cell(make_record: MakeRecord, tmp_path: Path, end: str) -> None:
    """Its threads let go of tensors; one that does so while Python ends aborts the rank, and with it the cell."""
    optimizer = Optimizer("sgd", lr={"finished": 0.1, "failed": 1e30}[end])
    record = make_record(bn_groups=1, optimizer=optimizer)
    script = tmp_path / "witness.py"
    script.write_text(WITNESS)
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*ranks, str(script), str(record.path), json.dumps(of_two(record).to_json())], check=False)
    assert (done.returncode != 0) == (end == "failed")
    assert record.state() == end
    left = " ".join((tmp_path / rank).read_text() for rank in "01")
    assert "python" in left
    assert "gloo" not in left


def test_a_stop_reaches_all_ranks(make_record: MakeRecord) -> None:
    record = make_record(epochs=200)
    process = start(record)
    wait_for_epoch(record, 1)
    process.send_signal(signal.SIGTERM)
    process.wait(100)
    ended = record.attempts()[0].outcome()
    assert ended
    assert ended.state == "interrupted"
    kept = torch.load(record.path / "attempts/1/checkpoint.pt", weights_only=True)
    assert kept["step"] > 20
