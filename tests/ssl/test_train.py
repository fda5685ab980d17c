"""One cell: what it records, how it resumes, how it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.catalog.losses import LOSSES
from harness.cell import Loss, Optimizer
from harness.errors import UserError
from harness.files import read_json
from harness.plugins import register
from harness.ssl import train
from harness.ssl.attempt import run_cell
from harness.ssl.methods.batch import Batch
from harness.ssl.models.backbones.convnet import ConvNet
from harness.store.record import Record
from tests.support.training import MakeRecord, numbers, outcome, start, stop_and_resume

NUMBERS = ("test_knn", "test_linear", "init_knn", "init_linear")


def test_a_cell_records_its_curve_its_judgement_and_its_encoder(make_record: MakeRecord) -> None:
    record = make_record()
    run_cell(record)
    assert record.state() == "finished"
    metrics = outcome(record).metrics
    assert isinstance(metrics, dict)
    assert set(metrics) == set(NUMBERS)
    assert all(0 <= value <= 100 for value in metrics.values())
    events = record.events()
    assert [event.epoch for event in events] == [0, 1, 2]
    assert all("val_knn" in event.metrics for event in events)
    assert events[-1].step == 2 * (1293 // 64)
    provenance = read_json(record.attempts()[0].provenance_file) or {}
    assert {"revision", "versions", "hardware", "sources", "threads"} <= set(provenance)


@pytest.mark.e2e
def test_training_beats_the_initial_encoder(make_record: MakeRecord) -> None:
    record = make_record(epochs=6)
    run_cell(record)
    metrics = outcome(record).metrics
    assert isinstance(metrics, dict)
    assert metrics["test_knn"] > metrics["init_knn"] + 3


@pytest.mark.e2e
def test_the_same_cell_twice_gives_the_same_bits(make_record: MakeRecord) -> None:
    first, second = make_record("a"), make_record("b")
    run_cell(first)
    run_cell(second)
    assert numbers(first) == numbers(second)


@pytest.mark.e2e
@pytest.mark.parametrize("last_step", [7, 20, 40], ids=["within an epoch", "at an epoch's end", "at the end"])
def test_a_stop_at_any_step_resumes_to_the_same_bits(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    calm, stopped = make_record("calm"), make_record("stopped")
    run_cell(calm)
    stop_and_resume(stopped, last_step, monkeypatch)
    assert numbers(stopped) == numbers(calm)


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer("adam", lr=1e-3, lr_rule="constant", schedule="constant"),
        Optimizer("adamw", lr=1e-3, decay_all=False, clip_norm=1.0, warmup_steps=5),
        Optimizer("lars", lr=0.2, bias_lr=0.0048, trust=0.02, clip_lr=True, lr_end=0.001),
        Optimizer("sgd", decay_all=False, schedule="step"),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_every_optimiser_resumes_to_the_same_bits(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, optimizer: Optimizer
) -> None:
    calm, stopped = (make_record(name, optimizer=optimizer, epochs=2) for name in ("calm", "stopped"))
    run_cell(calm)
    stop_and_resume(stopped, 1293 // 64 + 4, monkeypatch)
    assert numbers(stopped) == numbers(calm)


OWN_LOSS = """
import random
import numpy as np
import torch

def centered(z1, z2, *, temperature=0.2, state):
    center = state.setdefault("center", torch.zeros(z1.shape[1]))
    logits = (z1 - center) @ (z2 - center).T / temperature
    drop = (torch.rand_like(logits) < 0.5 * random.random()) & ~torch.eye(len(z1), dtype=torch.bool)
    state["center"] = 0.9 * center + 0.1 * z1.detach().mean(0) * np.random.rand()
    return torch.nn.functional.cross_entropy(logits.masked_fill(drop, -1e4), torch.arange(len(z1)))
"""


@pytest.mark.e2e
def test_a_network_that_draws_from_the_global_generator_is_refused(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a ViT with dropout would: equal cells would have unequal numbers, and no checkpoint has such draws."""
    forward = ConvNet.forward
    monkeypatch.setattr(ConvNet, "forward", lambda self, x: torch.nn.functional.dropout(forward(self, x), 0.1))
    record = make_record(epochs=1)
    with pytest.raises(UserError, match="draws from torch's global generator"):
        run_cell(record)
    assert record.state() == "failed"


def test_an_own_loss_that_draws_and_keeps_a_state_resumes_to_the_same_bits(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calm, stopped = (own_record(make_record, folder, tmp_path, OWN_LOSS) for folder in ("calm", "stopped"))
    run_cell(calm)
    torch.rand(3)
    stop_and_resume(stopped, 7, monkeypatch)
    assert numbers(stopped) == numbers(calm)


@pytest.mark.e2e
def test_an_own_loss_that_keeps_something_elsewhere_is_not_resumed(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = OWN_LOSS.replace(", state", "").replace("\ndef", "state = {}\ndef")
    record = own_record(make_record, "kept", tmp_path, kept)
    with pytest.raises(UserError, match="it changes state from step to step, and no checkpoint has that"):
        stop_and_resume(record, 7, monkeypatch)
    failed = record.attempts()[-1].outcome()
    assert failed
    assert "no checkpoint has that" in failed.error


@pytest.mark.e2e
def test_a_file_of_losses_that_is_broken_meanwhile_breaks_no_other_cell(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    """Submissions of before name the files of all losses of their sweep."""
    (tmp_path / "broken.py").write_text("def mine(z1, z2:")
    record = make_record(epochs=1)
    submission = record.submission()
    assert submission
    record.submit(replace(submission, run=replace(submission.run, plugins=(str(tmp_path / "broken.py"),))))
    run_cell(record)
    assert record.state() == "finished"


def own_record(make_record: MakeRecord, folder: str, tmp_path: Path, content: str) -> Record:
    file = tmp_path / "own_loss.py"
    file.write_text(content)
    register([file])
    record = make_record(folder, loss=Loss("centered", 0.2, source=LOSSES["centered"].source))
    submission = record.submission()
    assert submission
    record.submit(replace(submission, run=replace(submission.run, plugins=(str(file),))))
    return record


@pytest.mark.e2e
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, damaged = make_record("calm", epochs=3), make_record("damaged", epochs=3)
    run_cell(calm)
    end_epoch = train.Trainer.end_epoch

    def fail_in_the_third(self: train.Trainer, epoch: int, rate: float) -> None:
        if epoch == 2:
            raise OSError("the node went away")
        end_epoch(self, epoch, rate)

    monkeypatch.setattr(train.Trainer, "end_epoch", fail_in_the_third)
    with pytest.raises(OSError, match="went away"):
        run_cell(damaged)
    monkeypatch.undo()
    (damaged.path / "attempts/1/checkpoint.pt").write_bytes(b"half a checkpo")
    run_cell(damaged)
    assert numbers(damaged) == numbers(calm)
    assert "trying an older one" in capsys.readouterr().out


@pytest.mark.e2e
def test_a_diverged_cell_fails_with_its_reason_and_keeps_the_last_good_checkpoint(make_record: MakeRecord) -> None:
    record = make_record(optimizer=Optimizer(lr=1e30), epochs=3)
    assert start(record).wait(120) == 1
    assert record.state() == "failed"
    ended = record.attempts()[0].outcome()
    assert ended is not None
    said = "Diverged: the loss is not finite at step 2 of 60 (epoch 1), learning rate 2.498e+29"
    assert ended.error.startswith(said)
    assert ended.error.endswith("last good checkpoint: none yet")
    log = (record.path / "attempts/1/stderr.log").read_text()
    assert "Traceback" in log
    assert "Diverged" in log


def test_a_cell_that_diverges_late_keeps_its_last_good_checkpoint(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(epochs=3)
    update = train.Trainer.update

    def poison(self: train.Trainer, batch: Batch) -> None:
        update(self, batch)
        if self.step == 30:  # the weights that step 31 leaves; step 32 is the first whose loss shows it
            torch.nn.init.constant_(next(self.network.parameters()), torch.nan)

    monkeypatch.setattr(train.Trainer, "update", poison)
    with pytest.raises(train.Diverged, match=r"the loss is not finite at step 32 of 60 \(epoch 2\)"):
        run_cell(record)
    kept = torch.load(record.path / "attempts/1/checkpoint.pt", weights_only=True)
    assert kept["step"] == 20
    assert all(weight.isfinite().all() for weight in kept["method"].values())
    ended = record.attempts()[0].outcome()
    assert ended
    assert str(record.path / "attempts/1/checkpoint.pt") in ended.error


@pytest.mark.e2e
def test_an_outcome_has_one_evaluation_even_if_it_was_changed_in_between(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, changed = make_record("calm"), make_record("changed")
    submission = calm.submission()
    assert submission
    evaluation = replace(submission.run.evaluation, knn_k=3)
    submission = calm.submit(replace(submission, run=replace(submission.run, evaluation=evaluation)))
    run_cell(calm)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    update = train.Trainer.update

    def stop(self: train.Trainer, batch: Batch) -> None:
        self.heartbeat.stop = "signal"
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", stop)
    with pytest.raises(train.Interrupted):
        run_cell(changed)
    monkeypatch.undo()
    torch.set_num_threads(1)
    changed.submit(submission)
    run_cell(changed)
    assert outcome(changed).metrics == outcome(calm).metrics


@pytest.mark.e2e
def test_arms_that_differ_in_the_loss_see_identical_views(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[bytes]] = {}
    update = train.Trainer.update

    def spy(self: train.Trainer, batch: Batch) -> None:
        seen.setdefault(self.cell.loss.name, []).append(batch.whole.contiguous().numpy().tobytes())
        update(self, batch)

    monkeypatch.setattr(train.Trainer, "update", spy)
    for loss in (Loss("infonce"), Loss("dcl"), Loss("dclw", sigma=0.5)):
        run_cell(make_record(loss=loss))
    assert len(seen["infonce"]) == 2 * (1293 // 64)
    assert seen["infonce"] == seen["dcl"] == seen["dclw"]
