"""``python -m harness.ssl.measure.step_cost THREADS DEVICE`` measures time, disk and memory of cells, for a plan.

Reads ``{"plugins": [file, ...], "steps": [kind, ...], "memory": [kind, ...]}`` from standard input, a kind being
``{"key", "cell", "channels", "micro_batch"}``, for steps also ``"files"`` (a sample of streamed files), for memory
``"images"`` (see ``ImageCounts``) and ``"world_size"``. Prints a line ``[key, null]`` before it measures a kind, so
that its reader knows which kind has killed it, and then ``[key, costs]``:
``{"sample", "feature", "start", "encoder_bytes", "checkpoint_bytes"}`` of steps, ``{"bytes"}`` of memory.

Time is measured on real steps. Memory is not: a step at the cell's own batch size may take minutes, or be killed.
Instead the step is traced with tensors that have shapes and no content, and the bytes of all tensors alive at its peak
are counted.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # before torch is imported: every cell pays for that

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from harness import json_process, plugins  # noqa: E402
from harness.cell import Cell, from_dict  # noqa: E402
from harness.errors import UserError  # noqa: E402
from harness.ssl import gradient, methods, models, optim  # noqa: E402
from harness.ssl.data import augment, augmentation_parameters, streaming  # noqa: E402
from harness.ssl.distributed import World  # noqa: E402
from harness.ssl.evaluate import diagnostics, knn  # noqa: E402
from harness.ssl.evaluate.features import BATCH, embed, frozen, normalized  # noqa: E402
from harness.ssl.losses import bind  # noqa: E402
from harness.ssl.losses.interruption import found_by_interruption  # noqa: E402
from harness.ssl.losses.own_loss import OwnLoss  # noqa: E402
from harness.ssl.losses.validation import skip_value_checks  # noqa: E402
from harness.ssl.methods.base import TrainingMethod  # noqa: E402
from harness.ssl.methods.batch import Batch  # noqa: E402
from harness.ssl.methods.micro_batches import micro_batches  # noqa: E402
from harness.ssl.runtime.malloc import keep_freed_memory  # noqa: E402

WARM_UP, COUNTED, ENOUGH_SECONDS = 2, 10, 3.0

#: The factor on counted bytes for the kernels' own workspace, and for what allocators round up.
SLACK = 1.1
#: On a CPU, glibc takes blocks below MMAP_BYTES from a heap whose holes it cannot give back: they cost about double.
MMAP_BYTES, HOLES = 32 * 2**20, 2
#: Bytes of a GPU that CUDA itself and its libraries hold.
CUDA_CONTEXT = 600 * 2**20


@dataclass(frozen=True)
class ImageCounts:
    """The numbers of images of a cell."""

    train: int
    bank: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        """The number of all images."""
        return self.train + self.validation + self.test


class StepBenchmark:
    """A cell's method and optimiser on random images."""

    def __init__(
        self,
        cell: Cell,
        network: models.Network,
        method: TrainingMethod,
        channels: int,
        device: torch.device,
        parts: Sequence[slice],
    ) -> None:
        self.cell, self.network, self.method, self.channels, self.device = cell, network, method, channels, device
        self.parts = parts
        self.optimizer = optim.build(cell.optimizer, method.parameters())
        self.mean, self.std = torch.full((channels,), 0.5, device=device), torch.ones(channels, device=device)

    def images(self, count: int) -> Tensor:
        """Return random images, uint8 (count, C, H, W), on the device."""
        size = self.cell.dataset.image_size
        return torch.randint(0, 256, (count, self.channels, size, size), dtype=torch.uint8, device=self.device)

    def augmentation_parameters(self, count: int) -> Tensor:
        """Return the augmentation parameters of two views of so many images, resolved once, as for an epoch."""
        size = self.cell.dataset.image_size
        draws = torch.rand(2, count, augmentation_parameters.columns(self.cell.views))
        return augmentation_parameters.resolve(draws, self.cell.views, self.channels, size, size).to(self.device)

    def two_views(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Return the normalised views (2, n, C, H, W) of images (n, C, H, W)."""
        pixels = normalized(augment.augment(images, parameters, self.cell.views).flatten(0, 1), self.mean, self.std)
        stacked: Tensor = pixels.unflatten(0, (2, -1))
        return stacked

    def step(self, images: Tensor, parameters: Tensor, with_diagnostics: bool = False) -> None:
        """Take one step of the optimiser; some steps of an epoch also compute diagnostics."""
        rows = torch.arange(self.cell.batch_size, device=self.device)

        def local_views(part: slice) -> Tensor:
            return self.two_views(images[part], parameters[:, part])

        taken = Batch(local_views, rows, seed=0, step=0, micro_batches=self.parts)
        self.optimizer.zero_grad(set_to_none=True)
        comparison = gradient.backward(self.method, self.method, taken)
        if with_diagnostics:
            diagnostics.StepDiagnostics().update(comparison, self.cell.loss.temperature, comparison.loss.detach())
        self.optimizer.step()
        self.method.after_step(taken, comparison)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> None:
        """Encode the images of the embedding metrics at an epoch's end."""
        with frozen(self.network):
            self.network(self.two_views(images, self.augmentation_parameters(len(images))).flatten(0, 1))

    def embed(self, images: Tensor) -> Tensor:
        """Return the features (n, d) of images (n, C, H, W), as the evaluation computes them."""
        with frozen(self.network.encoder):
            return embed(self.network.encoder, images.float() / 255, self.mean, self.std, self.cell.precision)


def trial(cell: Cell, channels: int, device: torch.device, micro_batch: int | None = None) -> StepBenchmark:
    """Return the benchmark of a cell's step with a new network on the device."""
    network, parts = models.build(cell, channels), micro_batches(cell.batch_size, micro_batch)
    method = methods.build(cell, network, cell.batch_size, World(), len(parts)).to(device)
    return StepBenchmark(cell, network, method, channels, device, parts)


def time_and_disk(cell: Cell, channels: int, device: torch.device, micro_batch: int | None = None) -> dict[str, float]:
    """Return median seconds per image of a whole step (views included) and of its features, and bytes of its files."""
    try:
        return _time_and_disk(cell, channels, device, micro_batch)
    except torch.OutOfMemoryError:  # the plan refuses the cell, and says why
        return time_and_disk(replace(cell, batch_size=cell.batch_size // 2, bn_groups=1), channels, device)


def _time_and_disk(cell: Cell, channels: int, device: torch.device, micro_batch: int | None) -> dict[str, float]:
    tried = trial(cell, channels, device, micro_batch)
    images, parameters = tried.images(2 * cell.batch_size), tried.augmentation_parameters(cell.batch_size)
    return {
        "sample": _median_seconds(lambda: tried.step(images[: cell.batch_size], parameters), device) / cell.batch_size,
        "feature": _median_seconds(lambda: tried.embed(images), device) / len(images),
        "encoder_bytes": len(safetensors.torch.save(_contiguous(tried.network.encoder.state_dict()))),
        "checkpoint_bytes": _saved_bytes([tried.method.state_dict(), tried.optimizer.state_dict()]),
    }


def with_decoding(sample: float, files: Sequence[str], cell: Cell, threads: int, device: torch.device) -> float:
    """Return the seconds per sample where images are decoded: on a CPU before the step, on a GPU during it."""
    if not files:
        return sample
    decoding = streaming.seconds_per_image(list(map(Path, files)), cell.dataset.image_size, cell.views) / threads
    return sample + decoding if device.type == "cpu" else max(sample, decoding)


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < WARM_UP + COUNTED and sum(seconds) < ENOUGH_SECONDS):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[min(WARM_UP, len(seconds) - 1) :])


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in state.items()}


def _saved_bytes(state: Any) -> int:
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()


class LiveTensorBytes(TorchDispatchMode):
    """A count of the bytes of tensors that operations have made and that are still alive, by kind, and of its peak."""

    def __init__(self, kind_of: Callable[[int], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._kind_of = kind_of
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address not in self._known:
            self._known.add(address)
            self._add(size)
            weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self._known.remove(address)
        self._add(-size)

    def _add(self, size: int) -> None:
        kind = self._kind_of(abs(size))
        self.now[kind] += size
        self.peak[kind] = max(self.peak[kind], self.now[kind])


def peak_bytes(
    cell: Cell,
    channels: int,
    images: ImageCounts,
    world_size: int,
    device: torch.device,
    micro_batch: int | None = None,
) -> int:
    """Return the peak bytes of one process of the cell, above those of a process that has only built it.

    The peak may be reached while reading the images, in a step, at the end of an epoch, or in an evaluation."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    network, own = models.build(cell, channels), cell.batch_size // world_size
    with _ranks(world_size) as world:
        parts = micro_batches(own, micro_batch)
        method = methods.build(cell, network, images.train, world, len(parts))
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            skip_value_checks(),
            LiveTensorBytes(_kinds_on(device)) as live,
        ):
            _forget_contents(method)
            # On a CPU colour operations read their parameters, which have no values here; they take hardly any memory.
            still = replace(cell, views=replace(cell.views, jitter=0.0, gray=0.0, blur=0.0))
            tried = StepBenchmark(still, network, method, channels, torch.device("cpu"), parts)
            tried.step(tried.images(own), tried.augmentation_parameters(own), with_diagnostics=True)
            tried.step(tried.images(own), tried.augmentation_parameters(own))
            tried.embed_images(tried.images(min(diagnostics.IMAGES, images.validation)))
            width: int = tried.embed(tried.images(min(BATCH, images.train))).shape[1]
            for judge in (_neighbours, _probe):
                judge(torch.empty(images.bank, width), torch.empty(images.test, width))
    written = 2 * 4 * len(augmentation_parameters.PARAMETERS) * (images.train // world_size)
    # An epoch begins with all draws and those of this rank's samples, before any tensor of a step exists.
    draws = 2 * 4 * augmentation_parameters.columns(cell.views) * (images.train + images.train // world_size)
    traced = live.peak["whole"] + HOLES * live.peak["heap"]
    needed = written + max(int(SLACK * traced), draws if device.type == "cpu" else 0)
    if cell.dataset.stream:
        return needed + streaming.waiting_bytes(own, cell.dataset.image_size, device)
    pixels = channels * cell.dataset.image_size**2 * images.total
    return max(2 * pixels, pixels + needed)  # the images are held twice while they are split


def _kinds_on(device: torch.device) -> Callable[[int], str]:
    return lambda size: "whole" if size >= MMAP_BYTES or device.type == "cuda" else "heap"


@contextmanager
def _ranks(world_size: int) -> Iterator[World]:
    """Pretend that this process is the first of so many ranks."""
    if world_size == 1:
        yield World()
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    try:
        yield World(0, world_size)
    finally:
        dist.destroy_process_group()


def _forget_contents(module: nn.Module) -> None:
    """Replace parameters and buffers by tensors that have shapes only; inside a FakeTensorMode."""
    for inner in module.modules():
        for name, parameter in inner.named_parameters(recurse=False):
            setattr(inner, name, nn.Parameter(torch.empty_like(parameter), parameter.requires_grad))
        for name, buffer in inner.named_buffers(recurse=False):
            setattr(inner, name, torch.empty_like(buffer))


def _neighbours(bank: Tensor, test: Tensor) -> None:
    """Allocate what ``knn_accuracy`` holds."""
    bank, test = normalize(bank, dim=1), normalize(test, dim=1)
    (test[: knn.QUERIES] @ bank.T).topk(1)


def _probe(bank: Tensor, test: Tensor) -> None:
    """Allocate what ``linear_accuracy`` holds."""
    standard = [(rows - rows.mean(0)) / rows.std(0) for rows in (bank, test)]
    standard[0] * 1.0


def base_bytes(device: torch.device) -> int:
    """Return the bytes of a process that has built a cell, on the device where cells are trained."""
    if device.type == "cuda":
        return CUDA_CONTEXT
    tried = trial(Cell(), 3, device)  # building an optimiser imports another hundred megabytes
    held: int = sum(tensor.nbytes for tensor in tried.method.state_dict().values())
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 - held


def main() -> None:
    """Measure what is asked on standard input, request by request, with the threads and device of the command line."""
    threads, device = int(sys.argv[1]), torch.device(sys.argv[2])
    torch.set_num_threads(threads)
    keep_freed_memory()
    start = time.perf_counter() - STARTED
    json_process.serve(lambda request: answer(request, threads, device, start))


def answer(
    request: Mapping[str, Any], threads: int, device: torch.device, start: float
) -> Iterator[tuple[str, Mapping[str, float] | None]]:
    """Yield the key of each cell before it is measured, then its key and its costs: so a fatal cell is known."""
    plugins.register(request["plugins"])
    base = base_bytes(device) if request["memory"] else 0
    for kind in request["memory"]:
        yield kind["key"], None
        yield kind["key"], {"bytes": memory(kind, base, device)}
    for kind in request["steps"]:
        yield kind["key"], None
        cell = from_dict(Cell, kind["cell"])
        refuse_what_no_checkpoint_has(cell)
        with skip_value_checks():
            costs = time_and_disk(cell, kind["channels"], device, kind["micro_batch"])
            costs["sample"] = with_decoding(costs["sample"], kind["files"], cell, threads, device)
        yield kind["key"], {**costs, "start": start}


def refuse_what_no_checkpoint_has(cell: Cell) -> None:
    """Raise a UserError where the cell's loss is a user's and keeps something that an interruption would lose."""
    loss = bind(cell.loss)
    if isinstance(loss.func, OwnLoss):
        wrong = found_by_interruption(loss.func.entry, loss.keywords, cell.batch_size, cell.head.dim)
        if wrong:
            raise UserError(wrong, where=loss.func.entry.file)


def memory(kind: Mapping[str, Any], base: int, device: torch.device) -> int:
    """Return the bytes of the cell on a CPU, or of each of its GPUs; 0 where its loss needs values to be traced."""
    cell, ranks = from_dict(Cell, kind["cell"]), int(kind["world_size"])
    try:
        images = ImageCounts(**kind["images"])
        need = peak_bytes(cell, kind["channels"], images, ranks, device, kind["micro_batch"])
    except Exception:
        if cell.loss.source is None:
            raise
        return 0
    if device.type == "cuda" or ranks == 1:
        return base + need
    return (base + need) * ranks + base  # torchrun has imported torch, too


if __name__ == "__main__":
    main()
