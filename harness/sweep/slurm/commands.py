"""Slurm's commands, and the batch scripts of a cluster profile.

submitit writes the batch script and starts the function in every task. Its own job states are not used, since it asks
once per job and takes the job of a failed node for ended: states come from one squeue for all jobs, and from one sacct
for the jobs that have left the queue.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store.sweeps.job_arrays import JobStatus
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.run.scheduler import JobInfo, JobState
from harness.sweep.slurm.job import JobTask

#: The time limit of one command; while the controller is down, commands fail after about ten seconds.
CALL_SECONDS = 60.0
#: How long before its submission a job is searched for in accounting: the two clocks may be hours apart.
SEARCH_SECONDS = 86400.0
#: How often submitit lets a job reach its time limit; a long cell may reach it any number of times.
TIME_LIMITS = 100_000
#: A pattern in sbatch's message, what it means, and the keys of the profile that fix it.
REFUSALS = (
    ("violates accounting/QOS|submit limit", "a limit of the account or its quality of service", "max_jobs, time, qos"),
    ("partition configuration not available", "the partition does not give what is asked for", "gpus, nodes, time"),
    ("invalid partition|partition.* not valid", "there is no such partition", "partition"),
    ("account", "this account (or partition for it) is refused", "account"),
    ("qos", "this quality of service is refused", "qos"),
    ("time limit", "the time limit is above the partition's", "time"),
    ("memory", "no node has so much memory", "memory"),
    ("feature|constraint", "no node fulfils the constraint", "constraint"),
    (
        "node configuration|gres|more processors|node count",
        "no node has what is asked for",
        "gpus, nodes, cpus, memory",
    ),
    ("unrecognized option|invalid option", "it does not know this option", "sbatch"),
    ("contact slurm controller|connection|timed out", "the controller does not answer", ""),
)

#: The states of tasks that have not begun, or wait to begin again.
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
#: The states of tasks that have ended by themselves; tasks in any other final state are lost.
ENDED = {
    "COMPLETED": JobState.DONE,
    "FAILED": JobState.FAILED,
    "OUT_OF_MEMORY": JobState.FAILED,
    "BOOT_FAIL": JobState.FAILED,
}


class Unreachable(Exception):
    """A command of Slurm failed or did not answer; the message says why in one line."""


class Slurm:
    """Slurm's commands. ``log`` gets a line for every call, so that users see how often a cluster is asked."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log

    def ask(self, *command: str) -> str:
        """Run a command and return what it prints.

        Raises:
            UserError: the command is not on this machine.
            Unreachable: the command failed or took too long.
        """
        if shutil.which(command[0]) is None:
            raise no_slurm(command[0])
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CALL_SECONDS)
        except subprocess.TimeoutExpired:
            self._log(f"{command[0]}: no answer")
            raise Unreachable(f"{command[0]} did not answer within {CALL_SECONDS:.0f} seconds") from None
        self._log(f"{command[0]}: {done.returncode}, {time.monotonic() - began:.2f} s")
        if done.returncode:
            raise Unreachable(f"{command[0]}: {_error(done.stderr)}")
        return done.stdout

    def queue(self, users: Collection[str]) -> tuple[dict[str, JobStatus], dict[str, str]]:
        """Return the status of these users' tasks by task id, and the ids of their jobs by name.

        squeue still lists tasks that ended some minutes ago.
        """
        user_list = ",".join(sorted(users))
        lines = self.ask("squeue", "-h", "-r", "-u", user_list, "-t", "all", "-o", "%i|%T|%r|%j").splitlines()
        statuses, job_ids = {}, {}
        for line in lines:
            task, state, why, name = line.split("|", 3)
            statuses[task] = JobStatus(state, "" if why == "None" else why)
            job_ids[name] = task.partition("_")[0]
        return statuses, job_ids

    def past(self, jobs: Collection[str], since: float) -> dict[str, JobStatus]:
        """Return the status of these jobs' tasks, by task id, as accounting (sacct) has it."""
        if not jobs:
            return {}
        begin = _beginning_of_search(since)
        output = self.ask(
            "sacct", "-X", "-n", "-P", "-S", begin, "-j", ",".join(sorted(jobs)), "-o", "JobID,State,ExitCode"
        )
        statuses = {}
        for line in output.splitlines():
            task, state, code = line.split("|", 2)
            statuses[task] = JobStatus(state.split()[0], f"exit code {code}" if code != "0:0" else state)
        return statuses

    def job_named(self, name: str, since: float) -> str:
        """Return the id of the job with this name in accounting; the empty string if there is none."""
        begin = _beginning_of_search(since)
        job_ids = self.ask("sacct", "-X", "-n", "-P", "-S", begin, "--name", name, "-o", "JobID").split()
        return job_ids[0].partition("_")[0] if job_ids else ""

    def most_array_tasks(self) -> int:
        """Return the cluster's MaxArraySize: the largest number of tasks of a job array."""
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", self.ask("scontrol", "show", "config"))
        return max(1, int(found[1])) if found else 1001  # 0 means that the cluster has no arrays

    def cancel(self, tasks: Collection[str], at_once: bool = False) -> None:
        """Cancel these jobs or tasks with one scancel; ``at_once``, without the time to write a checkpoint."""
        if tasks:
            self.ask("scancel", *(["--signal=KILL", "--full"] if at_once else []), *sorted(tasks))


def _beginning_of_search(since: float) -> str:
    """Return a time before a job was submitted, as Slurm reads it; its clock may be off by hours."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - SEARCH_SECONDS))


def job_info(status: JobStatus) -> JobInfo:
    """Return the state of a task in the words of a scheduler in general."""
    if status.state in WAITING:
        return JobInfo(JobState.PENDING, status.why)
    if not status.over:
        return JobInfo(JobState.RUNNING, status.why)
    return JobInfo(ENDED.get(status.state, JobState.LOST), f"{status.state} {status.why}".rstrip())


def no_slurm(command: str) -> UserError:
    """Return the error for a command of Slurm that is not on this machine."""
    return UserError(
        f"there is no {command} on this machine",
        where="cluster.scheduler",
        allowed="slurm on a login node of a cluster, none elsewhere",
        next_command="cluster=local, or the same command on a login node",
    )


@dataclass(frozen=True)
class Profile:
    """What a cluster profile makes of a job.

    Attributes:
        cluster: the declared values of ``cluster:``.
        folder: where the scripts and Slurm's output go; the nodes must see it.
    """

    cluster: ClusterConfig
    folder: Path

    def script(self, name: str, comment: str, tasks: int, resources: Resources) -> str:
        """Return the batch script that ``submit`` gives to sbatch."""
        executor = self._executor(name, comment, resources)
        if tasks > 1:
            executor.parameters["map_count"] = tasks
        return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def submit(self, name: str, comment: str, tasks: Sequence[Sequence[Path]], resources: Resources) -> str:
        """Submit one job, an array if it has several tasks; return its id.

        Raises:
            UserError: Slurm refuses the job; the error says what to change.
            Unreachable: Slurm does not answer; the job may or may not be in the queue.
        """
        from submitit.core.utils import FailedJobError

        executor = self._executor(name, comment, resources)
        try:
            with outside_of_jobs(), executor.batch():
                jobs = [executor.submit(JobTask(tuple(str(record) for record in task))) for task in tasks]
        except FailedJobError as error:
            raise refused(str(error)) from None
        return str(jobs[0].job_id).partition("_")[0]

    def complete(self, job: str, tasks: Sequence[Sequence[Path]], resources: Resources) -> None:
        """Write the files that submitit writes for each task, for a job whose submitter died before it did so."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        for number, task in enumerate(tasks):
            submission = DelayedSubmission(JobTask(tuple(str(record) for record in task)))
            submission.set_timeout(_minutes(resources), TIME_LIMITS)
            path = JobPaths(self.folder, job_id=f"{job}_{number}" if len(tasks) > 1 else job).submitted_pickle
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                submission.dump(path)

    def _executor(self, name: str, comment: str, resources: Resources) -> Any:
        from submitit.slurm.slurm import SlurmExecutor

        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise no_slurm("sbatch")
        cluster = self.cluster
        options = {"requeue" if cluster.requeue else "no-requeue": True, **cluster.sbatch}
        setup = [*cluster.setup]
        if cluster.interface:
            setup += [f"export {library}_SOCKET_IFNAME={cluster.interface}" for library in ("NCCL", "GLOO")]
        kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
        # -P: the folder in which a job is submitted must not be searched for modules.
        python = f"{cluster.python or shlex.quote(sys.executable)} -P"
        executor = SlurmExecutor(self.folder, max_num_timeout=TIME_LIMITS, python=python)
        executor.update_parameters(
            job_name=name,
            comment=comment,
            partition=cluster.partition,
            account=cluster.account,
            qos=cluster.qos,
            constraint=cluster.constraint,
            time=_minutes(resources),
            nodes=resources.nodes,
            ntasks_per_node=resources.gpus,
            cpus_per_task=cluster.cpus,
            gpus_per_node=f"{kind}{resources.gpus}" if cluster.device == "cuda" else None,
            mem=f"{round(cluster.memory * 1024)}M" if cluster.memory else None,
            signal_delay_s=cluster.grace,
            array_parallelism=cluster.throttle or 100_000,
            wckey=None,
            setup=setup or None,
            # A rank that dies ends the job; otherwise the other ranks would wait for it until the time limit.
            srun_args=["--export=ALL", "--kill-on-bad-exit=1", *cluster.srun],
            additional_parameters=options,
        )
        return executor


def _minutes(resources: Resources) -> int:
    """Return the time limit of a job with these resources, in Slurm's whole minutes."""
    return max(1, round(resources.time or 0))


def _error(output: str) -> str:
    """Return the line of a command's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it printed nothing"]
    errors = [line for line in lines if re.search("error|unrecognized|invalid", line, re.IGNORECASE)]
    return (errors or lines)[-1]


def refused(output: str) -> UserError | Unreachable:
    """Return the error for a job that sbatch refused, with the keys of the profile that fix it."""
    last = re.sub(r"^(sbatch: )+(error: )?", "", _error(output))
    for pattern, meaning, key in REFUSALS:
        if re.search(pattern, output, re.IGNORECASE):
            if not key:
                return Unreachable(f"{meaning} ({last})")
            names = ", ".join(f"cluster.{name}" for name in key.split(", "))
            return UserError(
                f"Slurm refuses the job: {meaning} ({last})", where=names, next_command="harness doctor cluster=NAME"
            )
    return UserError(f"Slurm refuses the job: {last}", where="cluster", next_command="harness doctor cluster=NAME")


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Remove the variables of the surrounding job, if any: sbatch would take them as options of the new job."""
    inside = "SLURM_JOB_ID" in os.environ
    names = [name for name in os.environ if re.match("SLURM_|SUBMITIT_", name) and name != "SLURM_CONF"]
    inherited = {name: os.environ.pop(name) for name in names if inside}
    try:
        yield
    finally:
        os.environ |= inherited
