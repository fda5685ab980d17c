"""One attempt at a cell: begin it in the record, train or resume from the checkpoint, write the outcome."""

from __future__ import annotations

import functools
import signal
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch

from harness import plugins
from harness.cell import Dataset
from harness.environment.job import stop_cause
from harness.environment.revision import source_hash
from harness.ssl import distributed
from harness.ssl.compute_environment import compute_environment
from harness.ssl.data import sources
from harness.ssl.data.node_copy import staged
from harness.ssl.data.split import Data
from harness.ssl.distributed import World
from harness.ssl.losses.validation import skip_value_checks
from harness.ssl.runtime.compile import compile_networks
from harness.ssl.runtime.malloc import keep_freed_memory
from harness.ssl.runtime.output import redirected_output
from harness.ssl.train import Diverged, Interrupted, Trainer
from harness.store.heartbeat import Heartbeat
from harness.store.outcome import Outcome
from harness.store.provenance import Provenance
from harness.store.record import Attempt, Busy, Record, Superseded
from harness.store.submission import Allocation, Submission
from harness.store.sweeps.ledger import Ledger


class CodeDrift(Exception):
    """The sources have changed since the cell was submitted."""


class Unwanted(Exception):
    """The cell was withdrawn, or its sweep starts no more cells."""


def run_cell(record: Record, submission: Submission | None = None) -> None:
    """Train the cell of a prepared record, or resume it from its last checkpoint; the record keeps all that happens.

    ``submission``: how to run the cell, where it is not the submission in the record.

    Where the process is one of several ranks (``distributed.joined``), it computes its part; rank 0 writes the record.

    Raises:
        Busy: another process computes the cell now.
        Interrupted, Superseded: the attempt was asked to stop, or a later attempt has begun.
        Unwanted: the cell was withdrawn, or its sweep starts no more cells.
    """
    cell = record.cell()
    submission = submission or record.submission() or Submission()
    config = submission.run
    if cell.loss.source:  # the files of other cells' losses are none of this cell's business
        plugins.register(config.plugins)
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    device = distributed.own_device(config.device)
    with distributed.joined(device) as world, ExitStack() as stack:
        attempt = _begin(record, Provenance(submission, compute_environment(cell, device)), world)
        stack.enter_context(redirected_output(attempt.log("stdout"), attempt.log("stderr")))
        heartbeat = Heartbeat(attempt)
        stack.enter_context(stopped_by_signals(heartbeat, submission.allocation))
        if world.rank == 0:
            stack.enter_context(heartbeat)
        try:
            _refuse_other_code(config.source_hash)
            data = _loaded(cell.dataset, _root(cell.dataset, submission), device)
            run = Trainer(cell, data, config.evaluation, attempt, heartbeat, device, world, config.micro_batch)
            if config.compile:
                compile_networks(run.method, device, micro_batches=len(run.parts) > 1)
            with skip_value_checks():
                outcome = run.train()
        except (Interrupted, Superseded) as ended:
            if world.rank == 0:
                # All ranks stop together: another one may have had its signal before this one.
                asked = "signal" if isinstance(ended, Interrupted) else ""
                attempt.end(Outcome("interrupted", cause=heartbeat.stop or asked))
            raise
        except BaseException as error:
            traceback.print_exc()  # while standard error is still the attempt's log
            attempt.fail(f"{type(error).__name__}: {error}", cause_of(error), world.rank)
            if world.rank == 0:
                _report_to_ledger(record, submission, attempt)
            raise
        if world.rank == 0:
            attempt.end(outcome)
            _report_to_ledger(record, submission, attempt)


def cause_of(error: BaseException) -> str:
    """Return ``diverged``, ``out_of_memory``, ``code_drift`` or ``error``; only an ``error`` is worth another try."""
    if isinstance(error, Diverged | CodeDrift):
        return "diverged" if isinstance(error, Diverged) else "code_drift"
    # torch's CPU allocator has no error of its own.
    lacked = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return "out_of_memory" if lacked else "error"


def _begin(record: Record, provenance: Provenance, world: World) -> Attempt:
    """Begin the attempt on rank 0, and tell every rank its number, or why there is none."""
    number, refusal = 0, None
    if world.rank == 0:
        try:
            _refuse_unwanted(record, provenance.submission)
            number = record.begin(provenance).number
        except (Busy, Unwanted) as why:
            refusal = why
    number, refusal = world.broadcast_from_rank0((number, refusal))
    if refusal:
        raise refusal
    return Attempt(record, number)


def _refuse_unwanted(record: Record, submission: Submission) -> None:
    if record.withdrawn():
        raise Unwanted(f"cell {record.cell_id} was cancelled before it began")
    folder = record.sweep_folder(submission)
    if folder and (reason := Ledger(folder).stop_reason()):
        raise Unwanted(f"the sweep starts no more cells: {reason}")


def _refuse_other_code(submitted: str) -> None:
    """Raise CodeDrift where the sources have changed between submission and start."""
    if submitted and submitted != source_hash():
        raise CodeDrift(
            f"the code has changed since the cell was submitted (sources {submitted} then, {source_hash()} now); "
            "give the same harness sweep again, or submit with --allow-code-drift"
        )


def _report_to_ledger(record: Record, submission: Submission, attempt: Attempt) -> None:
    """Write into the sweep's ledger how this attempt ended."""
    folder, outcome = record.sweep_folder(submission), attempt.outcome()
    if folder is None or outcome is None:
        return
    if outcome.finished:
        Ledger(folder).finished(record.cell_id)
    else:
        Ledger(folder).failed(record.cell_id, outcome.cause, outcome.error, final=outcome.cause != "error")


def _root(dataset: Dataset, submission: Submission) -> str | None:
    """Return the folder of the images, or of their copy on this node's disk; streamed images lie in the cache."""
    root = submission.run.root
    allocation = None if dataset.stream else submission.allocation
    stage = allocation.stage_folder if allocation else None
    return staged(root, dataset.fingerprint, stage) if root and stage else root


@functools.lru_cache(maxsize=1)
def _loaded(dataset: Dataset, root: str | None, device: torch.device) -> Data:
    """Return the images on the device; they stay loaded for the next cell of the same process."""
    return sources.load(dataset, root).to(device)


@contextmanager
def stopped_by_signals(heartbeat: Heartbeat, allocation: Allocation | None) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGUSR2 (a scheduler's warning) finish the step, write a checkpoint, and stop."""

    def request(number: int, frame: FrameType | None) -> None:
        warned = allocation if number == signal.SIGUSR2 else None
        cause = stop_cause(warned.minutes, warned.grace_seconds) if warned else "signal"
        heartbeat.stop = heartbeat.stop or cause

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.signal(number, request) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
