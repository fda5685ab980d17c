"""The scheduler of this machine: a bounded queue over its cores or GPUs, which never starts more than fits.

A cell of one process goes to a worker, which has imported torch and still holds the data of the cell before. A cell of
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
import tempfile
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from harness import json_process
from harness.environment import device_locks
from harness.environment.cpu import cores
from harness.environment.device_locks import DeviceLease
from harness.environment.gpus import gpus
from harness.sweep.run.scheduler import Job, JobInfo, JobState
from harness.sweep.run.slots import Slots

#: A worker's answer to a cell that has failed, and the exit code of one that was stopped without an error.
FAILED, NOT_FINISHED = 1, 75
WORKER = tuple(json_process.command("harness.ssl.worker"))

#: How long a thread spins before it sleeps, while it waits for the others. With libgomp's own 300,000, threads take the
#: time of the very thread that they wait for if another program uses a core: next to one busy process, on two cores,
#: 520 samples/s of views, and 9,300 with 5,000. On idle cores there is no difference; sleeping at once costs half.
WAITING = {"GOMP_SPINCOUNT": "5000"}


@dataclass
class _Process:
    """A worker, or the torchrun of one cell.

    Attributes:
        slots: the slots of this sweep that it holds.
        lease: the cores or GPUs of the machine that it holds.
        errors: its standard error.
        job_id: the job that it computes; None while it is idle.
    """

    popen: subprocess.Popen[str]
    slots: tuple[int, ...]
    lease: DeviceLease
    errors: IO[bytes]
    job_id: str | None = None


class LocalScheduler:
    """Runs cells on this machine (see ``harness.sweep.run.scheduler.WatchedScheduler``).

    Args:
        slots: how the machine is divided.
        worker: the command of a worker (see ``harness.ssl.worker``).
    """

    def __init__(self, slots: Slots, worker: Collection[str] = WORKER) -> None:
        self._slots = slots
        self._gpus = gpus() if slots.device == "cuda" else []
        self._worker = tuple(worker)
        self._queue: deque[tuple[str, Job]] = deque()
        self._running: dict[str, Job] = {}
        self._over: dict[str, JobInfo] = {}
        self._processes: list[_Process] = []
        self._answers: queue.SimpleQueue[tuple[_Process, str]] = queue.SimpleQueue()
        self._count = 0

    def scripts(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield for each job a line of the shell that runs it as this scheduler does."""
        return map(self._script, jobs)

    def _script(self, job: Job) -> str:
        run = shlex.join(["env", *self._settings(job), *self._command(job)])
        if job.world_size > 1:
            return f"exec {run}"
        return f"echo {shlex.quote(json.dumps(_request(job)))} | {run}"

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Queue the jobs, which begin at the next ``status``, and return their ids."""
        ids = [f"{os.getpid()}.{number}" for number in range(self._count, self._count + len(jobs))]
        self._count += len(jobs)
        self._queue.extend(zip(ids, jobs, strict=True))
        return ids

    def status(self, ids: Collection[str], timeout: float = 0.0) -> Mapping[str, JobInfo]:
        """Start what slots are free for, and return the states, within ``timeout`` seconds of waiting for an end."""
        self._read_answers()
        self._fill()
        if timeout and not self._over.keys() & set(ids):
            with contextlib.suppress(queue.Empty):
                self._read_answer(*self._answers.get(timeout=timeout))
            self._read_answers()
            self._fill()
        return {job_id: self._over.get(job_id) or JobInfo(self._state(job_id)) for job_id in ids}

    def cancel(self, ids: Collection[str], at_once: bool = False) -> None:
        """Drop jobs that have not begun, and stop the processes of the others: with a signal, or killed ``at_once``."""
        self._over |= dict.fromkeys((job_id for job_id, _ in self._queue if job_id in ids), JobInfo(JobState.DONE))
        self._queue = deque(entry for entry in self._queue if entry[0] not in ids)
        for process in self._processes:
            if process.job_id not in ids:
                continue
            if at_once:
                _kill_session(process.popen)
            else:
                process.popen.terminate()

    def taken(self) -> int:
        """Return how many of the slots other sweeps hold now."""
        slots = self._slots
        if slots.device == "cuda":
            return slots.count - device_locks.free(unit for slot in range(slots.count) for unit in self._units(slot))
        return max(0, slots.count - device_locks.free(self._units(0)) // slots.threads)

    def close(self) -> None:
        """Let idle workers end at once, and busy ones after their cell."""
        for process in self._processes:
            self._dismiss(process)

    def _state(self, job_id: str) -> JobState:
        return JobState.RUNNING if job_id in self._running else JobState.PENDING

    def _read_answers(self) -> None:
        while not self._answers.empty():
            self._read_answer(*self._answers.get())

    def _read_answer(self, process: _Process, line: str) -> None:
        """Take in a worker's answer: its job is over. An empty line means that the process itself has ended."""
        if line:
            answer = json.loads(line)
            failed = answer["code"] == FAILED
            if failed or answer.get("ends"):
                self._dismiss(process)
            self._end(process, JobInfo(JobState.FAILED, answer["said"]) if failed else JobInfo(JobState.DONE))
            return
        self._dismiss(process)
        if process.popen.stdout:
            process.popen.stdout.close()
        self._processes.remove(process)
        process.lease.release()
        process.errors.seek(0)
        errors = process.errors.read()
        process.errors.close()
        self._end(process, _end_of_process(process.popen.returncode, errors))

    def _end(self, process: _Process, info: JobInfo) -> None:
        if process.job_id is not None:
            self._over[process.job_id] = info
            del self._running[process.job_id]
            process.job_id = None

    def _fill(self) -> None:
        """Start queued jobs in their order, as long as the next one has its slots and its memory."""
        while self._queue:
            job_id, job = self._queue[0]
            free = self._free_slots()
            free_memory = self._slots.memory - sum(running.memory for running in self._running.values())
            too_large = bool(self._slots.memory and self._running) and job.memory > free_memory
            if len(free) < job.world_size or too_large or not self._start(job_id, job, free):
                break
            self._queue.popleft()
        if not self._queue:  # idle workers hold cores or GPUs that other sweeps may need
            for process in self._processes:
                if process.job_id is None:
                    self._dismiss(process)

    def _free_slots(self) -> list[int]:
        """Return the slots without a job, those with an idle worker first."""
        busy = {slot for process in self._processes if process.job_id is not None for slot in process.slots}
        idle = {process.slots[0] for process in self._processes if process.job_id is None and process.popen.stdin}
        return sorted(set(range(self._slots.count)) - busy, key=lambda slot: (slot not in idle, slot))

    def _start(self, job_id: str, job: Job, free: Sequence[int]) -> bool:
        """Start the job on some of the free slots; return False if other sweeps hold the cores or GPUs for them."""
        process = self._idle_worker(free) if job.world_size == 1 else None
        if process is None:
            unused = [slot for slot in free if not any(slot in process.slots for process in self._processes)]
            leased = self._lease(unused, job.world_size)
            if leased is None:
                self._dismiss_idle_workers(free)
                return False
            process = self._launch(job, *leased)
        process.job_id = job_id
        self._running[job_id] = job
        if job.world_size == 1:
            json_process.send(process.popen, _request(job))
        return True

    def _idle_worker(self, free: Sequence[int]) -> _Process | None:
        idle = [process for process in self._processes if process.job_id is None and self._usable(process)]
        return next((process for slot in free for process in idle if slot in process.slots), None)

    def _lease(self, unused: Sequence[int], count: int) -> tuple[tuple[int, ...], DeviceLease] | None:
        """Take so many of these slots and lock their cores or GPUs; None if there are not enough of them."""
        if self._slots.device == "cpu":
            lease = device_locks.acquire(self._units(0), count * self._slots.threads) if len(unused) >= count else None
            return (tuple(unused[:count]), lease) if lease else None
        leases = [(slot, lease) for slot in unused if (lease := device_locks.acquire(self._units(slot), 1))]
        for _, surplus in leases[count:]:
            surplus.release()
        together = DeviceLease(tuple(descriptor for _, lease in leases[:count] for descriptor in lease.descriptors))
        if len(leases) < count:
            together.release()
            return None
        return tuple(slot for slot, _ in leases[:count]), together

    def _units(self, slot: int) -> list[str]:
        """Return the parts of the machine that a slot may use: any core, or the GPU that belongs to it."""
        slots = self._slots
        if slots.device == "cpu":
            count = max(cores(), slots.count * slots.threads)
            return [f"core-{number}" for number in range(count)]
        return [f"gpu-{self._gpus[slot % len(self._gpus)]}-{slot // len(self._gpus)}"]

    def _dismiss_idle_workers(self, free: Sequence[int]) -> None:
        """Let idle workers on these slots end; a cell of several processes waits for their slots."""
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

    def _launch(self, job: Job, slots: tuple[int, ...], lease: DeviceLease) -> _Process:
        environment = {**os.environ, **dict(setting.split("=", 1) for setting in self._settings(job))}
        if self._slots.device == "cuda":  # a script cannot say which GPU: that is known only when a slot is free
            visible = (self._gpus[slot % len(self._gpus)] for slot in slots)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible)
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the process has ended)
        # In a new session, so that the terminal's Ctrl-C reaches only the sweep, which then stops its cells in order.
        popen = subprocess.Popen(
            self._command(job),
            env=environment,
            stdin=subprocess.PIPE if job.world_size == 1 else subprocess.DEVNULL,
            # A rank that outlives its torchrun holds torchrun's pipe open, so torchrun's end is waited for, not read.
            stdout=subprocess.PIPE if job.world_size == 1 else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            pass_fds=lease.descriptors,
            text=True,
        )
        process = _Process(popen, slots, lease, errors)
        self._processes.append(process)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: _Process) -> None:
        if process.popen.stdout:
            for line in json_process.lines(process.popen):
                self._answers.put((process, line))
        process.popen.wait()
        if process.popen.stdout:  # processes that a user's loss has forked hold the worker's cores
            _kill_session(process.popen)
        self._answers.put((process, ""))

    def _settings(self, job: Job) -> list[str]:
        waiting = [f"{name}={value}" for name, value in WAITING.items()]
        return [f"OMP_NUM_THREADS={job.threads}", f"MKL_NUM_THREADS={job.threads}", *waiting]

    def _command(self, job: Job) -> list[str]:
        if job.world_size == 1:
            return list(self._worker)
        ranks = ["--standalone", f"--nproc-per-node={job.world_size}"]
        cell = json_process.command("harness.ssl", str(job.record), json.dumps(job.submission.to_json()))
        return json_process.command("torch.distributed.run", *ranks, "--no-python", *cell)


def _kill_session(popen: subprocess.Popen[str]) -> None:
    """Kill the process with all that it has started; it was started in a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)


def _request(job: Job) -> dict[str, object]:
    """Return what a worker reads.

    It contains the submission, as a rank's command does: another machine that shares the folder may have written its
    own into the record since.
    """
    return {"record": str(job.record), "submission": job.submission.to_json()}


def _end_of_process(code: int, errors: bytes) -> JobInfo:
    """Return how a process, or the rank that ended it, has ended: LOST after a SIGKILL, DONE where it was stopped
    without an error, as where another process has the cell, else FAILED."""
    reason, text = json_process.exit_reason(code, errors), errors.decode(errors="replace")
    if re.search(rf"Root Cause.*?exitcode *: {NOT_FINISHED} ", text, re.DOTALL):  # torchrun's own code is 1 then
        return JobInfo(JobState.DONE)
    if rank := re.search(r"Root Cause.*?Signal \d+ \((SIG\w+)\)", text, re.DOTALL):
        reason = f"{json_process.KILLED}{rank[1]}" if code > 0 else reason
    killed = reason == f"{json_process.KILLED}SIGKILL"
    return JobInfo(JobState.LOST if killed else JobState.FAILED, reason)
