"""``python -m harness.ssl.measure.throughput FIGURE`` measures how fast this machine trains; see ``harness bench``.

It prints a line of JSON for each row of the figure (``Row``). Two sides of a ratio are measured in turn, in one run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from harness import json_process
from harness.cell import Backbone, Cell, Dataset, Head, Loss
from harness.environment.cpu import cores
from harness.evaluation import Evaluation
from harness.ssl import losses, models, optim
from harness.ssl.data import augmentation_parameters
from harness.ssl.data.augment import LocalViews
from harness.ssl.data.split import Data, Split
from harness.ssl.distributed import World
from harness.ssl.evaluate.features import features, normalized
from harness.ssl.evaluate.knn import knn_accuracy
from harness.ssl.evaluate.linear_lbfgs import linear_accuracy
from harness.ssl.losses.validation import skip_value_checks
from harness.ssl.measure import throughput_workers
from harness.ssl.runtime.malloc import give_freed_memory_back, keep_freed_memory
from harness.ssl.train import Trainer
from harness.store.heartbeat import Heartbeat
from harness.store.record import Record

ROUNDS = 5
#: Seconds of a side in one round.
ENOUGH_SECONDS = 2.0
#: Steps of a round, at most: in an epoch of CIFAR-10 one in so many is probed.
MOST_STEPS = 21
#: CIFAR-10's training images without the held-out ones, and the held-out ones.
TRAIN, VALIDATION, TEST = 45_000, 5_000, 10_000
CPU = torch.device("cpu")

#: The result of a side in a round.
Taken = TypeVar("Taken")

#: The networks of the laptop scales and of the demos, on images of CIFAR-10's shape.
RESNET = Cell(dataset=Dataset("cifar10", 32), backbone=Backbone("resnet18", 16), precision="bf16", epochs=10)
CONVNET = replace(RESNET, backbone=Backbone("convnet", 16), head=Head(64, 64))
#: The published network.
WHOLE_RESNET = replace(RESNET, backbone=Backbone("resnet18", 64))


@dataclass(frozen=True)
class Row:
    """A row of a figure: medians, in ``unit``.

    beside: the baseline of ``measured``, whose name is ``beside_is``: a ceiling, or another way to do the same.
    ratio: measured / baseline, the median over rounds, since a machine that slows down slows both sides of a round.
    goal: a lower bound of ``measured`` (an upper bound with ``at_most``), or with ``of_ratio`` of the ratio.
    note: why nothing was measured. raw: every round of each side.
    """

    what: str
    unit: str = ""
    measured: float | None = None
    beside: float | None = None
    beside_is: str = ""
    ratio: float | None = None
    goal: float | None = None
    of_ratio: bool = False
    at_most: bool = False
    note: str = ""
    raw: Mapping[str, list[float]] = field(default_factory=dict)


def ratio_of(what: str, unit: str, sides: Mapping[str, list[float]], goal: float, *, at_most: bool = False) -> Row:
    """Return the ratio of the first side to the second, the median over rounds."""
    return replace(_baseline(what, unit, sides), goal=goal, of_ratio=True, at_most=at_most)


def _baseline(what: str, unit: str, sides: Mapping[str, list[float]]) -> Row:
    """Return a row of the first side with the second as its baseline."""
    (_, own), (beside_is, other) = sides.items()
    ratio = statistics.median(one / another for one, another in zip(own, other, strict=True))
    return Row(what, unit, statistics.median(own), statistics.median(other), beside_is, ratio, raw=sides)


def in_turn(sides: Mapping[str, Callable[[], Taken]], rounds: int = ROUNDS) -> dict[str, list[Taken]]:
    """Return the results of each side, round by round; the first round warms up and is not counted."""
    results: dict[str, list[Taken]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            value = side()
            if number > 0:
                results[name].append(value)
    return results


def seconds(work: Callable[[], object], device: torch.device = CPU) -> float:
    """Return the seconds of the work, until the device has finished it."""
    _wait_for(device)
    begun = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - begun


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def loop() -> Iterator[Row]:
    """Compare the training loop end to end with the bare steps of the same network."""
    yield loop_row("ResNet-18 width 16, batch 256, bf16", RESNET, 0.95, CPU)
    yield loop_row("ResNet-18 width 16, batch 256, fp32", replace(RESNET, precision="fp32"), 0.95, CPU)
    yield loop_row("convnet width 16, batch 256, bf16", CONVNET, 0.9, CPU)


def loop_row(what: str, cell: Cell, goal: float, device: torch.device) -> Row:
    """Return the loop's samples a second relative to those of bare steps; ``goal``: the smallest good ratio."""
    with attempt_of(cell, device) as run:
        bare = bare_step(cell, run.data, device)
        bare(1)
        count = max(3, min(MOST_STEPS, int(ENOUGH_SECONDS / seconds(lambda: bare(1), device))))
        sides = {
            "loop": lambda: trained(run, count),
            "bare steps": lambda: count * cell.batch_size / seconds(lambda: bare(count), device),
        }
        return ratio_of(f"loop: {what}", "samples/s", in_turn(sides), goal)


@contextmanager
def attempt_of(cell: Cell, device: torch.device) -> Iterator[Trainer]:
    """Return the trainer of an attempt in a temporary folder, on generated images."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        attempt = Record.prepare(Path(folder), cell).begin()
        heartbeat = stack.enter_context(Heartbeat(attempt))
        stack.enter_context(skip_value_checks())
        # What an epoch's end evaluates is not counted, and so kept small.
        evaluation = Evaluation(curve_bank=64)
        yield Trainer(
            cell, generated(cell.dataset.image_size).to(device), evaluation, attempt, heartbeat, device, World()
        )


def generated(size: int) -> Data:
    """Return noise images: as many training images as CIFAR-10 has, and few others."""
    train, few = _noise(TRAIN, size), _noise(64, size)
    return Data(train, train, few, few, torch.full((3,), 0.5), torch.full((3,), 0.25))


def _noise(count: int, size: int) -> Split:
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return Split(images, torch.arange(count) % 10)


def trained(run: Trainer, steps: int) -> float:
    """Return the samples/s of the loop's first steps by its own clock; one step in 21 computes diagnostics."""
    run.step, run.steps, before = 0, steps, run.train_seconds
    run.train_epoch(epoch=0)
    return steps * run.cell.batch_size / (run.train_seconds - before)


def bare_step(cell: Cell, data: Data, device: torch.device) -> Callable[[int], None]:
    """Return samples/s of forward, loss, backward and optimiser on views that exist already."""
    network = models.build(cell, data.channels).to(device)
    optimizer = optim.build(cell.optimizer, network.parameters())
    loss = losses.bind(cell.loss)
    images = next(data.train.batches(2 * cell.batch_size))
    prepared = normalized(images.float() / 255, data.mean, data.std)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            z1, z2 = normalize(network(prepared).float(), dim=1).chunk(2)
            loss(z1, z2).backward()
            optimizer.step()

    return steps


def two_views() -> Iterator[Row]:
    """Measure draws, crop, flip, jitter and grey of both views of an epoch, batch by batch, as the loop does."""
    split = _noise(TRAIN, RESNET.dataset.image_size)
    batches = torch.randperm(TRAIN).split(RESNET.batch_size)

    def local_views() -> Iterator[LocalViews]:
        return split.iter_views(batches, augmentation_parameters.draw(0, 0, TRAIN, RESNET.views), RESNET.views)

    def augmented() -> float:
        return TRAIN / seconds(lambda: _each(share(slice(None)) for share in local_views()))

    def copied() -> float:
        return TRAIN / seconds(lambda: _each(split.images[rows].repeat(2, 1, 1, 1).float() for rows in batches))

    sides = in_turn({"views": augmented, "copy to float": copied})
    yield replace(_baseline("views: two of 32x32x3, batch 256", "samples/s", sides), goal=35_000)


def _each(values: Iterable[object]) -> None:
    """Consume all items and keep none."""
    for _ in values:
        pass


def loss() -> Iterator[Row]:
    """Compare InfoNCE forward and backward with the form that makes the whole matrix of similarities."""
    for samples, rounds in ((256, 20), (8192, 2)):
        z1, z2 = (normalize(torch.randn(samples, 128), dim=1).requires_grad_() for _ in range(2))
        what = f"loss: InfoNCE of {samples:,} samples"
        need = 6 * 4 * (2 * samples) ** 2  # bytes of plain_infonce: several copies of the matrix
        if need > 1024 * _kibibytes("/proc/meminfo", "MemAvailable"):
            yield Row(what, note=f"not measured: the plain form needs {need / 2**30:.0f} GiB of memory")
            continue
        forms: dict[str, losses.LossFunction] = {
            "harness": losses.bind(Loss()),
            "plain form": partial(plain_infonce, temperature=0.1),
        }
        costs = in_turn({name: partial(cost, form, z1, z2) for name, form in forms.items()}, rounds)
        times, peaks = ({name: [pair[n] for pair in costs[name]] for name in costs} for n in (0, 1))
        yield ratio_of(what, "s", times, 1.3, at_most=True)
        if samples > 1024:  # with few samples the difference is lost among the pages that a process has anyway
            yield ratio_of(f"{what}, memory", "MiB", peaks, 1 / 8, at_most=True)


def plain_infonce(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE as most code computes it: the cross-entropy over the rows of the whole matrix."""
    anchors = torch.cat([z1, z2])
    logits = (anchors @ anchors.T / temperature).fill_diagonal_(-torch.inf)
    return cross_entropy(logits, torch.arange(len(anchors)).roll(len(z1)))


def cost(form: losses.LossFunction, z1: Tensor, z2: Tensor) -> tuple[float, float]:
    """Return the seconds of forward and backward, and the peak MiB of this process above what it held before."""
    z1.grad = z2.grad = None
    give_freed_memory_back()  # kept memory would hide the peak
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux forgets the peak so far
    before = _kibibytes("/proc/self/status", "VmRSS")
    with skip_value_checks():
        taken = seconds(lambda: form(z1, z2).backward())
    return taken, (_kibibytes("/proc/self/status", "VmHWM") - before) / 1024


def _kibibytes(file: str, name: str) -> int:
    return int(Path(file).read_text(encoding="ascii").partition(f"{name}:")[2].split()[0])


def evaluation() -> Iterator[Row]:
    """Measure kNN and linear probe at CIFAR-10's size, and the share of evaluation in a laptop cell."""
    yield from judged("evaluation: ", CPU)
    yield _share_of_a_cell(Evaluation(knn_k=200, knn_temperature=0.1, every=2))


def judged(prefix: str, device: torch.device) -> Iterator[Row]:
    """Yield the seconds of kNN and of the linear probe, on features of CIFAR-10's size."""
    rows = [tensor.to(device) for tensor in _classes(TRAIN + VALIDATION, TEST, width=512)]
    sizes = f"{len(rows[2]):,} to {len(rows[0]):,} x 512"
    neighbours = [seconds(lambda: knn_accuracy(*rows, k=200, temperature=0.1), device) for _ in range(3)]
    probe = [seconds(lambda: linear_accuracy(*rows, penalty=1e-4), device) for _ in range(2)]
    yield Row(f"{prefix}kNN, {sizes}", "s", statistics.median(neighbours), raw={"kNN": neighbours})
    yield Row(f"{prefix}linear probe, {sizes}", "s", statistics.median(probe), raw={"probe": probe})


def _classes(bank: int, queries: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features and labels of ten classes that overlap."""
    centres = torch.randn(10, width)
    bank_labels, labels = torch.randint(10, (bank,)), torch.randint(10, (queries,))
    rows = [0.2 * centres[row_labels] + torch.randn(len(row_labels), width) for row_labels in (bank_labels, labels)]
    return rows[0], bank_labels, rows[1], labels


def _share_of_a_cell(settings: Evaluation) -> Row:
    """Return the per cent of a laptop cell's seconds that go into its two test evaluations and its curve."""
    with attempt_of(RESNET, CPU) as run:
        trained(run, 2)
        training = RESNET.epochs * TRAIN / statistics.median(trained(run, 8) for _ in range(3))
        images = run.data.train.take(torch.arange(2048))
        encoder, mean, std = run.network.encoder, run.data.mean, run.data.std
        per_image = [seconds(lambda: features(encoder, images, mean, std, "bf16")) / 2048 for _ in range(4)]
        image, width = statistics.median(per_image[1:]), encoder.features
    rows = _classes(TRAIN, TEST, width)
    curve = _classes(settings.curve_bank, VALIDATION, width)
    vote = partial(knn_accuracy, k=settings.knn_k, temperature=settings.knn_temperature)
    final = (TRAIN + TEST) * image + seconds(lambda: vote(*rows))
    final += seconds(lambda: linear_accuracy(*rows, penalty=1e-4))
    point = (settings.curve_bank + VALIDATION) * image + seconds(lambda: vote(*curve))
    judging = 2 * final + (1 + RESNET.epochs // settings.every) * point
    raw = {"training s": [training], "one test s": [final], "one point of the curve s": [point]}
    share = 100 * judging / (judging + training)
    return Row("evaluation: share of a laptop cell, 10 epochs", "%", share, goal=10, at_most=True, raw=raw)


def sweep() -> Iterator[Row]:
    """Compare whole cells side by side, one thread each, with the same cells one after another with all threads."""
    for name, cell in (("ResNet-18 width 16", RESNET), ("convnet width 16", CONVNET)):
        for batch in (32, 256):
            with throughput_workers.sides(replace(cell, batch_size=batch), cores()) as sides:
                yield ratio_of(f"sweep: cells of {name}, batch {batch}", "samples/s", in_turn(sides, rounds=3), 1.15)


def startup() -> Iterator[Row]:
    """Measure the seconds of a cell outside its training and evaluation."""
    warm, cold = throughput_workers.start_seconds(warm=7, cold=3)
    yield Row("startup: a used worker's cell", "s", statistics.median(warm), goal=0.3, at_most=True, raw={"used": warm})
    yield Row("startup: a new worker's cell", "s", statistics.median(cold), raw={"new": cold})


def gpu() -> Iterator[Row]:
    """Measure the loop and the evaluation on a GPU."""
    if not torch.cuda.is_available():
        yield Row("gpu", note="not measured: torch sees no GPU")
        return
    device, name = torch.device("cuda"), torch.cuda.get_device_name()
    for batch in (512, 64):
        what = f"ResNet-18, batch {batch}, bf16, {name}"
        yield loop_row(what, replace(WHOLE_RESNET, batch_size=batch), 0.95, device)
    yield from judged(f"gpu: {name}, ", device)


FIGURES: dict[str, Callable[[], Iterator[Row]]] = {
    "loop": loop,
    "views": two_views,
    "loss": loss,
    "evaluation": evaluation,
    "sweep": sweep,
    "startup": startup,
    "gpu": gpu,
}


def main() -> None:
    """Answer with the rows of the figure that the command line names, each as soon as it is measured."""
    torch.set_num_threads(cores())
    keep_freed_memory()
    torch.manual_seed(0)
    with json_process.answers() as answer:
        for row in FIGURES[sys.argv[1]]():
            answer(asdict(row))


if __name__ == "__main__":
    main()
