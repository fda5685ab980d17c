"""The trainer of one cell: it trains an encoder, validates it on held-out images, and evaluates it once on the test
images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from harness.catalog.losses import LOSSES
from harness.cell import Cell
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.random_streams import permutation
from harness.ssl import checkpoint, distributed, encoder_file, gradient, methods, models, optim
from harness.ssl.data import augmentation_parameters
from harness.ssl.data.augment import LocalViews
from harness.ssl.data.split import Data, Split
from harness.ssl.data.streaming import Stream
from harness.ssl.distributed import World
from harness.ssl.evaluate.diagnostics import DIAGNOSTIC_STEPS, IMAGES, StepDiagnostics, geometry
from harness.ssl.evaluate.features import features, normalized
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.protocol import judge
from harness.ssl.methods.batch import Batch
from harness.ssl.methods.micro_batches import micro_batches
from harness.ssl.runtime.energy import meter_of
from harness.store.checksum import Checksum
from harness.store.heartbeat import Heartbeat
from harness.store.outcome import Outcome
from harness.store.progress import TrainingProgress
from harness.store.record import Attempt, Superseded

CHECKPOINT_SECONDS = 30.0


class Diverged(Exception):
    """The loss or the weights are no longer finite numbers."""


class Interrupted(Exception):
    """A signal or a request asked the attempt to stop; its checkpoint is written."""


class Trainer:
    """The state of one attempt at a cell."""

    def __init__(
        self,
        cell: Cell,
        data: Data,
        evaluation: Evaluation,
        attempt: Attempt,
        beat: Heartbeat,
        device: torch.device,
        world: World,
        micro_batch: int | None = None,
    ) -> None:
        self.cell, self.data, self.evaluation = cell, data, evaluation
        self.attempt, self.heartbeat, self.device, self.world = attempt, beat, device, world
        self.network = models.build(cell, data.channels)
        self.parts = micro_batches(cell.batch_size // world.size, micro_batch)
        self.method = methods.build(cell, self.network, len(data.train), world, len(self.parts)).to(device)
        self.model = distributed.parallel(self.method, world)
        self.optimizer = optim.build(cell.optimizer, self.method.parameters())
        # The last partial batch is dropped: a loss over fewer negatives would be another loss.
        self.steps_per_epoch = len(data.train) // cell.batch_size
        self.steps = cell.steps or self.steps_per_epoch * cell.epochs
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.first_bad_step = torch.full((), -1, device=device)
        self.probes = StepDiagnostics()
        self.results: dict[str, float] = {}
        self.train_seconds = 0.0  # over all attempts, like seconds; evaluation not counted
        self.seconds_before = 0.0
        self.joules_before: dict[str, float] = {}
        self.meter = meter_of(device, world)
        self.started = time.monotonic()
        self.files: dict[str, Checksum] = {}  # of the curve so far, also of earlier attempts; then of the weights
        self.notes: list[str] = []

    def train(self) -> Outcome:
        """Train from the last checkpoint or the start to the end; return the outcome, evaluated on rank 0."""
        self.restore()
        if self.step == 0 and self.world.rank == 0:
            self.evaluate("init")
            self.log_event(self.initial_metrics(), epoch=0)
        while self.step < self.steps:
            self.train_epoch(epoch=self.step // self.steps_per_epoch)
        if self.world.rank == 0:
            self.evaluate("test")
            kept = encoder_file.SavedEncoder(
                self.network.encoder,
                self.cell.backbone,
                self.data.mean,
                self.data.std,
                self.cell.dataset.image_size,
            )
            self.files[self.attempt.record.name_of(self.attempt.encoder)] = encoder_file.save(
                kept, self.attempt.encoder
            )
        return Outcome(
            "finished",
            metrics=self.results,
            evaluation=self.evaluation,
            steps=self.steps,
            peak_lr=optim.peak_lr(self.cell.optimizer, self.cell.batch_size),
            dropped=len(self.data.train) % self.cell.batch_size,
            world_size=self.world.size,
            train_seconds=self.train_seconds,
            seconds=self.seconds(),
            joules=self.joules(),
            files=self.files,
            notes=self.notes,
        )

    def train_epoch(self, epoch: int) -> None:
        """Train from the present step to the end of the epoch, or of all steps."""
        cell, samples = self.cell, len(self.data.train)
        order = torch.from_numpy(permutation(cell.seed, "order", samples, epoch)).to(self.device)
        draws = augmentation_parameters.draw(cell.seed, epoch, samples, cell.views)
        first_step, saved, started = self.step, time.monotonic(), time.monotonic()
        before = epoch * self.steps_per_epoch
        last = min(before + self.steps_per_epoch, self.steps)
        generators = self.global_generators()
        batches = order.split(cell.batch_size)[self.step - before : last - before]
        owns = [self.world.local_rows(rows) for rows in batches]
        with closing(self.data.train.iter_views(owns, draws, cell.views)) as shares:
            del draws  # some 250 bytes a sample, for as long as the epoch takes
            for rows, share in zip(batches, shares, strict=True):
                self.update(Batch(partial(self.views, share), rows, cell.seed, self.step, self.parts))
                self.step += 1
                now = time.monotonic()
                rate = (self.step - first_step) * cell.batch_size / (now - started)
                self.heartbeat.progress = TrainingProgress(self.step, self.steps, epoch, rate)
                stop, due = self.world.any_of(bool(self.heartbeat.stop), now - saved > CHECKPOINT_SECONDS)
                # At the epoch's end the checkpoint follows its event: resumption must not skip that.
                if self.step < last and (stop or due):
                    self.save(train_seconds=self.train_seconds + now - started)
                    saved = time.monotonic()
        self.refuse_divergence()  # waits for the device, so that the seconds include all steps
        self.refuse_global_draws(generators)
        seconds = time.monotonic() - started
        self.train_seconds += seconds
        self.end_epoch(epoch, (self.step - first_step) * cell.batch_size / seconds)
        self.save(self.train_seconds)

    def views(self, share: LocalViews, part: slice) -> Tensor:
        """Return the normalised views (2, k, C, H, W) of some of this rank's samples."""
        pixels = share(part).flatten(0, 1)
        stacked: Tensor = normalized(pixels, self.data.mean, self.data.std).unflatten(0, (2, -1))
        return stacked

    def update(self, batch: Batch) -> None:
        """Take one step of the optimiser. Nothing here reads a value back from the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_at(self.step) * group.get("lr_scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        comparison = gradient.backward(self.model, self.method, batch)
        if self.step % self.steps_per_epoch % max(1, self.steps_per_epoch // DIAGNOSTIC_STEPS) == 0:
            gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
            self.probes.update(comparison, self.logit_temperature(), torch.nn.utils.get_total_norm(gradients))
        if self.cell.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.cell.optimizer.clip_norm)
        self.optimizer.step()
        self.method.after_step(batch, comparison)
        self.world.average_statistics(self.method)
        loss = comparison.loss.detach()
        self.loss_sum += loss
        bad = (self.first_bad_step < 0) & ~loss.isfinite()
        self.first_bad_step = torch.where(bad, self.step, self.first_bad_step)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, which counts from 0."""
        settings = self.cell.optimizer
        warmup = optim.warmup_steps(settings, self.steps_per_epoch)
        return optim.lr_at(settings, step, self.steps, warmup, optim.peak_lr(settings, self.cell.batch_size))

    def logit_temperature(self) -> float | None:
        """Return what the loss divides cosines by; None where its logits are no cosines."""
        return self.cell.loss.temperature if LOSSES[self.cell.loss.name].cosine_logits else None

    def end_epoch(self, epoch: int, rate: float) -> None:
        """Log what the epoch showed; ``epoch`` counts from 0, ``rate`` is in samples a second."""
        if self.world.rank == 0:
            steps = self.step - epoch * self.steps_per_epoch
            metrics = {"loss": float(self.loss_sum) / steps, "samples_per_second": rate}
            metrics |= {**self.probes.summary(), **self.embedding_metrics()}
            if (epoch + 1) % self.evaluation.every == 0 or self.step == self.steps:
                metrics["val_knn"] = self.validate()
            self.log_event(metrics, epoch=epoch + 1)
        self.loss_sum.zero_()
        self.probes = StepDiagnostics()

    def log_event(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Append an event to the curve, and keep the checksum of all that was appended."""
        name = self.attempt.record.name_of(self.attempt.events_file)
        line = self.attempt.log_event(self.step, metrics, epoch=epoch)
        self.files[name] = self.files.get(name, Checksum()).extended(line)

    def refuse_divergence(self) -> None:
        """Raise Diverged before a NaN reaches a curve or a checkpoint; the host waits here once an epoch."""
        step = int(self.first_bad_step)
        weights = torch.stack([parameter.isfinite().all() for parameter in self.method.parameters()])
        if step < 0 and bool(weights.all()):
            return
        what = "the weights are not finite after" if step < 0 else "the loss is not finite at"
        step = self.step - 1 if step < 0 else step
        kept = checkpoint.newest_checkpoint(self.attempt.record)
        raise Diverged(
            f"{what} step {step + 1} of {self.steps} (epoch {step // self.steps_per_epoch + 1}), "
            f"learning rate {self.lr_at(step):.4g}; last good checkpoint: {kept or 'none yet'}"
        )

    def global_generators(self) -> bytes:
        """Return the states of torch's global generators."""
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return b"".join(state.numpy().tobytes() for state in states)

    def refuse_global_draws(self, before: bytes) -> None:
        """Raise a UserError if an epoch has drawn from torch's global generators.

        No seed of the cell determines such a draw, and no checkpoint has it: the same cell would have other numbers
        after an interruption. A user's own loss may draw: it is seeded before each of its calls.
        """
        if self.method.own_loss is None and self.global_generators() != before:
            raise UserError(
                "the training step draws from torch's global generator, which the cell's seed does not determine",
                where=f"backbone={self.cell.backbone.name} method={self.cell.method.name}",
                allowed="a backbone and a method without random layers (such as nn.Dropout), or draws from "
                "harness.random_streams",
            )

    def initial_metrics(self) -> dict[str, float]:
        """Log the first point of the curve, before any step."""
        return {"val_knn": self.validate(), **self.embedding_metrics()}

    @torch.no_grad()
    def embedding_metrics(self) -> dict[str, float]:
        """Return metrics of the embeddings of validation images, whose number does not depend on the batch size."""
        validation = self.data.validation
        rows = torch.arange(min(IMAGES, len(validation)), device=self.device)
        if len(rows) < 2:
            return {}
        draws = augmentation_parameters.draw(0, 0, len(rows), self.cell.views)
        (share,) = validation.iter_views([rows], draws, self.cell.views)
        self.network.eval()
        z1, z2 = self.network.forward(self.views(share, slice(None)).flatten(0, 1)).chunk(2)
        self.network.train()
        return geometry(z1, z2)

    def features(self, split: Split | Stream) -> Tensor:
        """Return the frozen encoder's features (n, d) of the images."""
        return features(self.network.encoder, split, self.data.mean, self.data.std, self.cell.precision)

    def validate(self) -> float:
        """Log a point of the learning curve: the kNN accuracy on the validation images."""
        known = self.data.bank
        rows = torch.linspace(0, len(known) - 1, min(len(known), self.evaluation.curve_bank)).long().to(self.device)
        bank = known.take(rows)
        queries = self.data.validation
        return knn_accuracy(
            self.features(bank),
            bank.labels,
            self.features(queries),
            queries.labels,
            k=self.evaluation.knn_k,
            temperature=self.evaluation.knn_temperature,
        )

    def evaluate(self, prefix: str, network: models.Network | None = None) -> None:
        """Evaluate an encoder on the test images: the initial one (init), or that of the last epoch (test)."""
        accuracies = judge((network or self.network).encoder, self.data, self.evaluation, self.cell.precision)
        self.results |= {f"{prefix}_{name}": value for name, value in accuracies.items()}

    def seconds(self) -> float:
        """Return the seconds of the whole cell over all attempts, as far as checkpoints know of them."""
        return self.seconds_before + time.monotonic() - self.started

    def joules(self) -> dict[str, float]:
        """Return the joules by source, over all attempts; a counter that could not be read adds nothing."""
        before, now = self.joules_before, self.meter.read() if self.meter else {}
        return {source: before.get(source, 0.0) + now.get(source, 0.0) for source in {**before, **now}}

    def save(self, train_seconds: float) -> None:
        """Write a checkpoint, then stop if a signal or a later attempt asks for it; all ranks decide together."""
        superseded, stop = self.world.any_of(
            self.world.rank == 0 and self.attempt.superseded(), bool(self.heartbeat.stop)
        )  # fmt: skip
        if superseded:
            raise Superseded(self.attempt.holder())
        self.refuse_divergence()
        if self.world.rank == 0:
            checkpoint.save(self.attempt, self.state(train_seconds))
        if stop:
            raise Interrupted(f"stopped ({self.heartbeat.stop}) after step {self.step} of {self.steps}")

    def state(self, train_seconds: float) -> checkpoint.TrainingState:
        """Return what a checkpoint needs so that training goes on with equal results."""
        state: checkpoint.TrainingState = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "loss_sum": self.loss_sum,
            "probes": asdict(self.probes),
            "results": self.results,
            "evaluation": asdict(self.evaluation),
            "train_seconds": train_seconds,
            "seconds": self.seconds(),
            "joules": self.joules(),  # read at least once an epoch: processors' counters wrap around
            "events": {name: str(checksum) for name, checksum in self.files.items()},
        }
        if self.method.own_loss:
            state["own_loss"] = self.method.own_loss.checkpoint()
        return state

    def restore(self) -> None:
        """Go back to the last whole checkpoint of the record, if it has one; all ranks must read the same one."""
        resumed = checkpoint.load_latest(self.attempt.record, self.device)
        state, self.files, self.notes = resumed.state, resumed.events, resumed.notes
        step = state["step"] if state else 0
        if self.world.broadcast_from_rank0(step) != step:
            raise RuntimeError(f"rank {self.world.rank} reads another checkpoint than rank 0")
        if state is None:
            return
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.method.own_loss and "own_loss" in state:  # older checkpoints have none
            self.method.own_loss.resume(state["own_loss"])
        self.step, self.results, self.probes = state["step"], state["results"], StepDiagnostics(**state["probes"])
        self.train_seconds, self.seconds_before = state["train_seconds"], state["seconds"]
        self.joules_before = state.get("joules", {})  # older checkpoints have none
        self.loss_sum.copy_(state["loss_sum"])
        if self.world.rank == 0 and Evaluation.from_json(state["evaluation"]).final() != self.evaluation.final():
            # One outcome has one evaluation: the initial encoder is evaluated again by the settings that now hold.
            self.evaluate("init", models.build(self.cell, self.data.channels).to(self.device))
