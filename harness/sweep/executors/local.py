"""The local executor: a bounded queue over this machine's cores or GPUs, one cell a slot, never all at once."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import IO

from harness.errors import UserError
from harness.sweep.executors.base import Job, JobState


@dataclass(frozen=True)
class Slots:
    """``count`` cells at a time on ``device`` (cpu or cuda), each ``world_size`` processes of ``threads`` threads."""

    count: int
    threads: int
    device: str
    world_size: int = 1


def gpus() -> list[str]:
    """The GPUs that this process may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in visible if name.strip() and not name.strip().startswith("-")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]


def divide(cells: int, slots: int | None, device: str, world_size: int = 1) -> Slots:
    """Divide this machine among ``cells`` cells.

    The division depends on the experiment, not on what is left of it: an interrupted cell goes on with as many
    threads as it began with, and so to the same numbers. One thread a cell moves the most samples on CPUs.

    Raises:
        UserError: cuda was asked for and there is no GPU, or fewer than a cell has processes.
    """
    cores = len(os.sched_getaffinity(0))
    cuda = gpus() if device in ("auto", "cuda") else []
    if device == "cuda" and not cuda:
        raise UserError("this machine has no GPU to use", where="cluster.device", allowed="auto, cpu")
    if cuda and world_size > len(cuda):
        what = f"{world_size} processes of a cell need a GPU each, and there are {len(cuda)}"
        raise UserError(what, where="cluster.world_size", allowed=f"1 <= value <= {len(cuda)}, or cluster.device=cpu")
    count = min(slots or max(1, (len(cuda) or cores) // world_size), cells)
    return Slots(count, max(1, cores // (count * world_size)), "cuda" if cuda else "cpu", world_size)


class LocalExecutor:
    """Runs ``python -m harness.ssl RECORD`` in subprocesses, under torchrun where a cell has several processes.

    Args:
        slots: how the machine is divided.
        occupied: how many slots are held by cells of an earlier sweep that was killed and left them running.
    """

    def __init__(self, slots: Slots, occupied: Callable[[], int] = lambda: 0) -> None:
        self._slots = slots
        self._occupied = occupied
        self._queue: deque[tuple[str, Job]] = deque()
        self._running: dict[str, tuple[subprocess.Popen[bytes], int, IO[bytes]]] = {}
        self._ended: dict[str, str] = {}
        self._count = 0

    def script(self, job: Job) -> str:
        settings = [f"OMP_NUM_THREADS={job.threads}", f"MKL_NUM_THREADS={job.threads}"]
        return f"exec env {shlex.join([*settings, *self._command(job)])}"

    def submit(self, job: Job) -> str:
        self._count += 1
        job_id = f"{os.getpid()}.{self._count}"
        self._queue.append((job_id, job))
        return job_id

    def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        self._reap()
        while self._queue and len(self._running) + self._occupied() < self._slots.count:
            self._start(*self._queue.popleft())
        return {i: "running" if i in self._running else "ended" if i in self._ended else "queued" for i in ids}

    def cancel(self, ids: Collection[str]) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] not in ids)
        for job_id in ids:
            if job_id in self._running:
                self._running[job_id][0].send_signal(signal.SIGTERM)
            else:
                self._ended.setdefault(job_id, "")

    def last_words(self, job_id: str) -> str:
        """What an ended job wrote to standard error before its record took the output over."""
        return self._ended.get(job_id, "")

    def _command(self, job: Job) -> list[str]:
        cell = ["-m", "harness.ssl", str(job.record)]
        if job.world_size == 1:
            return [sys.executable, *cell]
        ranks = ["--standalone", f"--nproc-per-node={job.world_size}"]
        return [sys.executable, "-m", "torch.distributed.run", *ranks, *cell]

    def _start(self, job_id: str, job: Job) -> None:
        slot = min(set(range(self._slots.count)) - {used for _, used, _ in self._running.values()})
        environment = dict(os.environ)
        if self._slots.device == "cuda":  # which GPU is known only when a slot is free: the one thing a script lacks
            cuda = gpus()
            own = range(slot * job.world_size, (slot + 1) * job.world_size)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(cuda[index % len(cuda)] for index in own)
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the job is reaped)
        # A session of its own: the terminal's Ctrl-C reaches the sweep alone, which then stops its cells in order.
        process = subprocess.Popen(
            ["/bin/sh", "-c", self.script(job)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        self._running[job_id] = (process, slot, errors)

    def _reap(self) -> None:
        for job_id, (process, _, errors) in list(self._running.items()):
            if process.poll() is not None:
                errors.seek(0)
                self._ended[job_id] = errors.read().decode(errors="replace").strip()
                errors.close()
                del self._running[job_id]
