"""One cell: train an encoder, watch it on the validation images, and judge it once on the test images."""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.cell import Cell
from harness.record import Attempt, Heartbeat, Record, Superseded
from harness.ssl import checkpoint, models, optim
from harness.ssl.data import sources, views
from harness.ssl.data.sources import Data
from harness.ssl.evaluate.features import features, normalized
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear import linear_accuracy
from harness.ssl.losses import bind
from harness.ssl.methods.simclr import simclr
from harness.ssl.provenance import provenance
from harness.ssl.streams import permutation

CHECKPOINT_SECONDS = 30.0


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """A signal asked the attempt to stop; its checkpoint stands."""


@dataclass(frozen=True)
class Evaluation:
    """``knn_k`` neighbours, votes at ``knn_temperature``; ``penalty`` of the linear probe; a curve ``every`` epochs.

    ``curve_bank``: how many training images the curve's nearest neighbours are taken from (the test uses all).
    """

    knn_k: int
    knn_temperature: float
    penalty: float
    every: int
    curve_bank: int


def run_cell(record: Record) -> None:
    """Compute a prepared record, or go on from its last checkpoint; everything that happens is in the record.

    Raises:
        Busy: somebody alive computes it.
        Interrupted, Superseded: it was told to stop, or another attempt took over.
    """
    cell = record.cell()
    submission = record.submission() or {}
    torch.set_num_threads(submission["threads"])
    device = torch.device(submission["device"])
    attempt = record.begin(provenance(cell, submission, device))
    with attempt.redirected_output(), Heartbeat(attempt) as heartbeat:
        try:
            data = sources.load(cell.dataset, submission["root"]).to(device)
            run = Run(cell, data, Evaluation(**submission["evaluation"]), attempt, heartbeat, device)
            with stopped_by_signals(run):
                outcome = run.train()
        except (Interrupted, Superseded):
            attempt.end({"state": "interrupted"})
            raise
        except BaseException as error:
            traceback.print_exc()  # while standard error is still the attempt's log
            attempt.end({"state": "failed", "error": f"{type(error).__name__}: {error}"})
            raise
        attempt.end({"state": "finished", **outcome})


class Run:
    """The state of one attempt at a cell."""

    def __init__(
        self, cell: Cell, data: Data, evaluation: Evaluation, attempt: Attempt, beat: Heartbeat, device: torch.device
    ) -> None:
        self.cell, self.data, self.evaluation = cell, data, evaluation
        self.attempt, self.heartbeat, self.device = attempt, beat, device
        self.network = models.build(cell, data.channels).to(device)
        self.loss = bind(cell.loss)
        self.optimizer = optim.sgd(cell.optimizer, self.network.parameters())
        # The last partial batch is dropped: a loss over fewer negatives would be another loss.
        self.steps_per_epoch = len(data.train) // cell.batch_size
        self.steps = self.steps_per_epoch * cell.epochs
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.results: dict[str, float] = {}
        self.train_seconds = 0.0  # over all attempts, like seconds; evaluation not counted
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.stop_requested = False

    def train(self) -> dict[str, Any]:
        self.restore()
        if self.step == 0:
            self.judge("init")
            self.attempt.log_event(0, {"val_knn": self.validate()}, epoch=0)
        while self.step < self.steps:
            self.train_epoch(epoch=self.step // self.steps_per_epoch)
        self.judge("test")
        weights = {name: value.contiguous() for name, value in self.network.encoder.state_dict().items()}
        save_file(weights, self.attempt.path / "encoder.safetensors")
        return {
            "metrics": self.results,
            "evaluation": asdict(self.evaluation),
            "steps": self.steps,
            "peak_lr": optim.peak_lr(self.cell.optimizer, self.cell.batch_size),
            "dropped": len(self.data.train) % self.cell.batch_size,
            "train_seconds": self.train_seconds,
            "seconds": self.seconds(),
        }

    def train_epoch(self, epoch: int) -> None:
        """From the present step to the end of the epoch."""
        cell, train = self.cell, self.data.train
        order = torch.from_numpy(permutation(cell.seed, "order", len(train), epoch)).to(self.device)
        draws = views.draw(cell.seed, epoch, len(train)).to(self.device)
        first_step, saved, started = self.step, time.monotonic(), time.monotonic()
        for batch in order.split(cell.batch_size)[self.step % self.steps_per_epoch : self.steps_per_epoch]:
            self.loss_sum += self.update(self.two_views(train.images[batch], draws[:, batch])).detach()
            self.step += 1
            now = time.monotonic()
            rate = (self.step - first_step) * cell.batch_size / (now - started)
            self.heartbeat.progress = {"step": self.step, "steps": self.steps, "epoch": epoch, "rate": rate}
            # At the epoch's end the checkpoint follows its event: resumption must not skip that.
            inside = self.step % self.steps_per_epoch > 0
            if inside and (self.stop_requested or now - saved > CHECKPOINT_SECONDS):
                self.save(train_seconds=self.train_seconds + now - started)
                saved = time.monotonic()
        self.train_seconds += time.monotonic() - started
        self.end_epoch(epoch, rate)
        self.save(self.train_seconds)

    def two_views(self, images: Tensor, draws: Tensor) -> Tensor:
        """uint8 (B, C, H, W) and draws (2, B, ...) -> (2B, C, H, W): all first views, then all second ones."""
        pixels = views.augment(images.repeat(2, 1, 1, 1), draws.flatten(0, 1), self.cell.views)
        return normalized(pixels, self.data.mean, self.data.std)

    def update(self, two_views: Tensor) -> Tensor:
        """One step of the optimiser; returns the loss."""
        settings = self.cell.optimizer
        warmup = round(settings.warmup_epochs * self.steps_per_epoch)
        lr = optim.lr_at(self.step, self.steps, warmup, optim.peak_lr(settings, self.cell.batch_size))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.cell.precision == "bf16"):
            loss = simclr(self.network, self.loss, two_views)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss

    def end_epoch(self, epoch: int, rate: float) -> None:
        loss = float(self.loss_sum) / self.steps_per_epoch  # the one synchronisation of an epoch
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} in epoch {epoch + 1}; lr {self.optimizer.param_groups[0]['lr']:.4g}")
        self.loss_sum.zero_()
        metrics = {"loss": loss, "samples_per_second": rate}
        if (epoch + 1) % self.evaluation.every == 0 or epoch + 1 == self.cell.epochs:
            metrics["val_knn"] = self.validate()
        self.attempt.log_event(self.step, metrics, epoch=epoch + 1)

    def features(self, split: sources.Split) -> Tensor:
        encoder: nn.Module = self.network.encoder
        return features(encoder, split, self.data.mean, self.data.std, self.cell.precision)

    def validate(self) -> float:
        """A point of the learning curve: kNN accuracy on the validation images."""
        chosen = torch.linspace(0, len(self.data.train) - 1, min(len(self.data.train), self.evaluation.curve_bank))
        rows = chosen.long().to(self.device)
        bank = sources.Split(self.data.train.images[rows], self.data.train.labels[rows])
        return self.knn(self.features(bank), bank.labels, self.features(self.data.validation), self.data.validation)

    def judge(self, prefix: str) -> None:
        """kNN and linear probe on the test images: of the initial encoder (init), of the last epoch's (test)."""
        train, test = self.features(self.data.train), self.features(self.data.test)
        self.results[f"{prefix}_knn"] = self.knn(train, self.data.train.labels, test, self.data.test)
        self.results[f"{prefix}_linear"] = linear_accuracy(
            train, self.data.train.labels, test, self.data.test.labels, penalty=self.evaluation.penalty
        )

    def knn(self, bank: Tensor, bank_labels: Tensor, queries: Tensor, split: sources.Split) -> float:
        k, temperature = self.evaluation.knn_k, self.evaluation.knn_temperature
        return knn_accuracy(bank, bank_labels, queries, split.labels, k=k, temperature=temperature)

    def seconds(self) -> float:
        """Of the whole cell, over all attempts, as far as checkpoints know of them."""
        return self.seconds_before + time.monotonic() - self.started

    def save(self, train_seconds: float) -> None:
        """Checkpoint; then stop if a signal or a later attempt says so."""
        if self.attempt.superseded():
            raise Superseded(self.attempt.holder())
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "loss_sum": self.loss_sum,
            "results": self.results,
            "evaluation": asdict(self.evaluation),
            "train_seconds": train_seconds,
            "seconds": self.seconds(),
        }
        checkpoint.save(self.attempt.path, state)
        if self.stop_requested:
            raise Interrupted(f"stopped by a signal after step {self.step} of {self.steps}")

    def restore(self) -> None:
        state = checkpoint.load_latest(self.attempt.record, self.device)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.results = state["step"], state["results"]
        self.train_seconds, self.seconds_before = state["train_seconds"], state["seconds"]
        self.loss_sum.copy_(state["loss_sum"])
        if state["evaluation"] != asdict(self.evaluation):
            # One outcome has one evaluation: the initial encoder is judged again as the last epoch's will be.
            trained, self.network = self.network, models.build(self.cell, self.data.channels).to(self.device)
            self.judge("init")
            self.network = trained


@contextmanager
def stopped_by_signals(run: Run) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGUSR2 (a scheduler's warning) let the step finish, write a checkpoint, and stop."""

    def request(number: int, frame: FrameType | None) -> None:
        run.stop_requested = True

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.signal(number, request) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
