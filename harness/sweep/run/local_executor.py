"""The local executor: a bounded queue over this machine's cores or GPUs, never more than fits.

A cell of one process goes to a worker, which has imported torch and holds the data of the cell before; a cell of
several processes is started by torchrun.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from harness.environment import device_locks
from harness.environment.cpu import cores
from harness.environment.device_locks import DeviceLease
from harness.environment.gpus import gpus
from harness.sweep.run.executor import KILLED, Job, JobState
from harness.sweep.run.slots import Slots

#: A worker's answer after which it ends.
FAILED = 1
WORKER = (sys.executable, "-m", "harness.ssl.worker")


#: How long a thread spins until it sleeps, while it waits for the others. With libgomp's own 300,000, threads take the
#: time of the very thread that they wait for where somebody else uses a core: beside one busy process, on two cores,
#: 520 samples/s of views, and 9,300 with 5,000. On idle cores there is no difference; sleeping at once costs half.
WAITING = {"GOMP_SPINCOUNT": "5000"}


@dataclass
class _Process:
    """A worker, or the torchrun of one cell; ``slots``: those it holds of the sweep's, ``claim``: of the machine's."""

    popen: subprocess.Popen[str]
    slots: tuple[int, ...]
    claim: DeviceLease
    errors: IO[bytes]
    job_id: str | None = None


class LocalExecutor:
    """Runs cells in workers, and those of several processes under torchrun.

    Args:
        slots: how the machine is divided.
        worker: the command of a worker (see ``harness.ssl.worker``).
    """

    def __init__(self, slots: Slots, worker: Collection[str] = WORKER) -> None:
        self._slots = slots
        self._gpus = gpus() if slots.device == "cuda" else []
        self._worker = tuple(worker)
        self._queue: deque[tuple[str, Job]] = deque()
        self._jobs: dict[str, Job] = {}  # that run
        self._processes: list[_Process] = []
        self._ended: dict[str, str] = {}
        self._answers: queue.SimpleQueue[tuple[_Process, str]] = queue.SimpleQueue()
        self._count = 0

    def script(self, job: Job) -> str:
        run = shlex.join(["env", *self._settings(job), *self._command(job)])
        return f"echo {shlex.quote(_request(job))} | {run}" if job.world_size == 1 else f"exec {run}"

    def submit(self, job: Job) -> str:
        self._count += 1
        job_id = f"{os.getpid()}.{self._count}"
        self._queue.append((job_id, job))
        return job_id

    def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        self._settle()
        self._fill()
        return {i: "running" if i in self._jobs else "ended" if i in self._ended else "queued" for i in ids}

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._settle_one(*self._answers.get(block=seconds > 0, timeout=seconds or None))

    def exit_reason(self, job_id: str) -> str:
        return self._ended.get(job_id, "")

    def cancel(self, ids: Collection[str]) -> None:
        self._ended |= dict.fromkeys((job_id for job_id, _ in self._queue if job_id in ids), "")
        self._queue = deque(entry for entry in self._queue if entry[0] not in ids)
        for process in self._processes:
            if process.job_id in ids:
                process.popen.terminate()

    def kill(self) -> None:
        self._queue.clear()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)

    def taken(self) -> int:
        """How many of the slots other sweeps hold now."""
        slots = self._slots
        if slots.device == "cuda":
            return slots.count - device_locks.free(unit for slot in range(slots.count) for unit in self._units(slot))
        return max(0, slots.count - device_locks.free(self._units(0)) // slots.threads)

    def close(self) -> None:
        """Let idle workers end; those that compute end after their cell."""
        for process in self._processes:
            self._dismiss(process)

    def _settle(self) -> None:
        while not self._answers.empty():
            self._settle_one(*self._answers.get())

    def _settle_one(self, process: _Process, line: str) -> None:
        """A line is a worker's answer: its cell has ended. An empty one: the process has, and its cell with it."""
        if line:
            answer = json.loads(line)
            if answer["code"] == FAILED:
                self._dismiss(process)
            self._end(process, answer["said"] if answer["code"] == FAILED else "")
            return
        self._dismiss(process)
        if process.popen.stdout:
            process.popen.stdout.close()
        self._processes.remove(process)
        process.claim.release()
        process.errors.seek(0)
        words = process.errors.read().decode(errors="replace").strip()
        process.errors.close()
        self._end(process, _exit_reason(process.popen.returncode, words))

    def _end(self, process: _Process, said: str) -> None:
        if process.job_id is not None:
            self._ended[process.job_id] = said
            del self._jobs[process.job_id]
            process.job_id = None

    def _fill(self) -> None:
        """Start queued jobs in their order, as long as the next one has its slots and its memory."""
        while self._queue:
            job_id, job = self._queue[0]
            free = self._free_slots()
            room = self._slots.memory - sum(running.memory for running in self._jobs.values())
            cramped = bool(self._slots.memory and self._jobs) and job.memory > room
            if len(free) < job.world_size or cramped or not self._start(job_id, job, free):
                break
            self._queue.popleft()
        if not self._queue:  # other sweeps may have what nobody here waits for
            for process in self._processes:
                if process.job_id is None:
                    self._dismiss(process)

    def _free_slots(self) -> list[int]:
        """Those with an idle worker first."""
        busy = {slot for process in self._processes if process.job_id is not None for slot in process.slots}
        idle = {process.slots[0] for process in self._processes if process.job_id is None and process.popen.stdin}
        return sorted(set(range(self._slots.count)) - busy, key=lambda slot: (slot not in idle, slot))

    def _start(self, job_id: str, job: Job, free: Sequence[int]) -> bool:
        """On some of the free slots; False where the machine has none for them yet."""
        process = self._idle_worker(free) if job.world_size == 1 else None
        if process is None:
            unused = [slot for slot in free if not any(slot in process.slots for process in self._processes)]
            claimed = self._claimed(unused, job.world_size)
            if claimed is None:
                self._make_room(free)
                return False
            process = self._launch(job, *claimed)
        process.job_id = job_id
        self._jobs[job_id] = job
        if job.world_size == 1:
            assert process.popen.stdin
            with contextlib.suppress(BrokenPipeError):  # it has just died: its end will be read as the job's
                process.popen.stdin.write(_request(job) + "\n")
                process.popen.stdin.flush()
        return True

    def _idle_worker(self, free: Sequence[int]) -> _Process | None:
        idle = [process for process in self._processes if process.job_id is None and self._usable(process)]
        return next((process for slot in free for process in idle if slot in process.slots), None)

    def _claimed(self, unused: Sequence[int], count: int) -> tuple[tuple[int, ...], DeviceLease] | None:
        """So many of these slots, with what they are of the machine."""
        if self._slots.device == "cpu":
            claim = device_locks.acquire(self._units(0), count * self._slots.threads) if len(unused) >= count else None
            return (tuple(unused[:count]), claim) if claim else None
        found = [(slot, claim) for slot in unused if (claim := device_locks.acquire(self._units(slot), 1))]
        for _, more in found[count:]:
            more.release()
        together = DeviceLease(tuple(descriptor for _, claim in found[:count] for descriptor in claim.descriptors))
        if len(found) < count:
            together.release()
            return None
        return tuple(slot for slot, _ in found[:count]), together

    def _units(self, slot: int) -> list[str]:
        """What a slot may be of the machine: any core; the GPU that is its own."""
        slots = self._slots
        if slots.device == "cpu":
            count = max(cores(), slots.count * slots.threads)
            return [f"core-{number}" for number in range(count)]
        return [f"gpu-{self._gpus[slot % len(self._gpus)]}-{slot // len(self._gpus)}"]

    def _make_room(self, free: Sequence[int]) -> None:
        """A cell of several processes waits until idle workers have left their slots."""
        for process in self._processes:
            if process.job_id is None and set(process.slots) & set(free):
                self._dismiss(process)

    @staticmethod
    def _usable(process: _Process) -> bool:
        stdin = process.popen.stdin
        return stdin is not None and not stdin.closed and process.popen.poll() is None

    @staticmethod
    def _dismiss(process: _Process) -> None:
        if process.popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.popen.stdin.close()

    def _launch(self, job: Job, slots: tuple[int, ...], claim: DeviceLease) -> _Process:
        environment = {**os.environ, **dict(setting.split("=", 1) for setting in self._settings(job))}
        if self._slots.device == "cuda":  # which GPU is known only when a slot is free: the one thing a script lacks
            own = (self._gpus[slot % len(self._gpus)] for slot in slots)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the process has ended)
        # A session of its own: the terminal's Ctrl-C reaches the sweep alone, which then stops its cells in order.
        popen = subprocess.Popen(
            self._command(job),
            env=environment,
            stdin=subprocess.PIPE if job.world_size == 1 else subprocess.DEVNULL,
            # A rank that outlives its torchrun holds torchrun's pipe open: its end is waited for, not read.
            stdout=subprocess.PIPE if job.world_size == 1 else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            pass_fds=claim.descriptors,
            text=True,
        )
        process = _Process(popen, slots, claim, errors)
        self._processes.append(process)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: _Process) -> None:
        for line in process.popen.stdout or ():
            self._answers.put((process, line))
        process.popen.wait()
        self._answers.put((process, ""))

    def _settings(self, job: Job) -> list[str]:
        waiting = [f"{name}={value}" for name, value in WAITING.items()]
        return [f"OMP_NUM_THREADS={job.threads}", f"MKL_NUM_THREADS={job.threads}", *waiting]

    def _command(self, job: Job) -> list[str]:
        if job.world_size == 1:
            return list(self._worker)
        ranks = ["--standalone", f"--nproc-per-node={job.world_size}"]
        run = ["-m", "harness.ssl", str(job.record), json.dumps(job.submission.to_json())]
        return [sys.executable, "-m", "torch.distributed.run", *ranks, *run]


def _request(job: Job) -> str:
    """What a worker reads. With the submission, as for ranks: another machine that shares the folder may have written
    its own."""
    return json.dumps({"record": str(job.record), "submission": job.submission.to_json()})


def _exit_reason(code: int, words: str) -> str:
    """Why a process is no more: the signal that ended it, or one of its ranks, or the last line that it wrote."""
    if code < 0:
        return f"{KILLED}{signal.Signals(-code).name}"
    if rank := re.search(r"Root Cause.*?Signal \d+ \((SIG\w+)\)", words, re.DOTALL):
        return f"{KILLED}{rank[1]}"
    last = words.splitlines()[-1:] if code else []
    return last[0] if last else f"the process ended by itself with exit code {code}"
