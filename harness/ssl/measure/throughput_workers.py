"""Workers that train real cells in a temporary folder while ``harness.ssl.measure.throughput`` measures the time."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from harness import json_process
from harness.cell import Backbone, Cell, Dataset, Head
from harness.datasets import find
from harness.evaluation import Evaluation
from harness.ssl.worker import FINISHED
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission

#: Images of the generated folder, and epochs of its cells: some seconds a cell.
TRAIN, TEST, EPOCHS = 1536, 128, 1
#: Cells of a worker in one round.
IN_A_ROW = 2


class Worker:
    """A worker process, started as a sweep starts it."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = json_process.command("harness.ssl.worker")
        self._popen = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._popen.communicate()

    def ask(self, record: Record) -> None:
        """Ask the worker to train the record, which has been submitted."""
        submission = record.submission()
        assert submission
        json_process.send(self._popen, {"record": str(record.path), "submission": submission.to_json()})

    def wait(self) -> None:
        """Wait until the worker has finished a record.

        Raises:
            RuntimeError: the record did not finish.
        """
        assert self._popen.stdout
        answer = json.loads(self._popen.stdout.readline() or '{"code": 1, "said": "the worker has died"}')
        if answer["code"] != FINISHED:
            raise RuntimeError(f"a cell has not finished: {answer['said']}")


class CellSupply:
    """A supply of records of one cell, each with a new seed, below ``folder``."""

    def __init__(self, folder: Path, cell: Cell, root: str | None) -> None:
        self._folder, self._root, self.batch_size = folder, root, cell.batch_size
        self._cell = replace(cell, dataset=replace(cell.dataset, fingerprint=find(cell.dataset.name, root).fingerprint))
        self._seeds = itertools.count()

    def next(self, threads: int) -> Record:
        """Return a new record, submitted to run with so many threads."""
        record = Record.prepare(self._folder, replace(self._cell, seed=next(self._seeds)))
        run = RunConfig(threads=threads, device="cpu", root=self._root, evaluation=Evaluation(curve_bank=500))
        record.submit(Submission(run))
        return record


@contextmanager
def sides(cell: Cell, cores: int) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Return samples/s of cells like this one, evaluation included.

    The first is that of as many workers as there are cores, one thread each; the second that of one worker with all
    threads."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # packed images are removed with the folder
        _write_images(folder / "images")
        small = replace(cell, dataset=Dataset("imagefolder", 32), epochs=EPOCHS)
        cells = CellSupply(folder / "runs", small, str(folder / "images"))
        many = [stack.enter_context(Worker(threads=1)) for _ in range(cores)]
        one = stack.enter_context(Worker(threads=cores))
        yield {
            "side by side": lambda: _rate(cells, many),
            "one after another": lambda: _rate(cells, [one]),
        }


def _rate(cells: CellSupply, workers: Sequence[Worker]) -> float:
    """Return the samples/s of workers that train several cells each, one after another."""
    requests = [(worker, cells.next(worker.threads)) for worker in workers for _ in range(IN_A_ROW)]
    begun = time.perf_counter()
    for worker, record in requests:
        worker.ask(record)
    for worker, _ in requests:
        worker.wait()
    seconds = time.perf_counter() - begun
    outcomes = [outcome for _, record in requests if (outcome := record.outcome())]
    samples = sum(outcome.steps for outcome in outcomes) * cells.batch_size
    return float(samples / seconds)


def _write_images(folder: Path) -> None:
    """Write noise images of ten classes."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (TRAIN + TEST, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        label = folder / ("train" if number < TRAIN else "test") / str(number % 10)
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(label / f"{number}.png", compress_level=0)


def start_seconds(warm: int, cold: int) -> tuple[list[float], list[float]]:
    """Return the seconds of digits cells outside their training and evaluation.

    The first is that of a worker that has trained a cell before; the second that of new workers, which import torch
    first."""
    cell = Cell(backbone=Backbone("convnet", 16), head=Head(64, 64))
    with tempfile.TemporaryDirectory() as folder:
        cells = CellSupply(Path(folder), cell, None)
        started = []
        for _ in range(cold):
            begun = time.perf_counter()
            with Worker(threads=1) as worker:
                started.append(_overhead_seconds(worker, cells.next(1), begun))
        with Worker(threads=1) as worker:
            _overhead_seconds(worker, cells.next(1), 0.0)
            return [_overhead_seconds(worker, cells.next(1), time.perf_counter()) for _ in range(warm)], started


def _overhead_seconds(worker: Worker, record: Record, begun: float) -> float:
    worker.ask(record)
    worker.wait()
    ended = time.perf_counter()
    outcome = record.outcome()
    assert outcome
    return ended - begun - outcome.seconds
