"""The Slurm executor: job arrays through submitit, and one question for all of a sweep's jobs.

submitit writes the batch script and starts the function in every task; what it knows of jobs (one question per job,
a failed node's job taken for over) is not used: states come from one squeue, and one sacct where that is too late.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store.job_arrays import JobStatus
from harness.sweep.expand.resources import Resources
from harness.sweep.slurm.job import JobTask

#: Of one call; a controller that is down answers after some ten seconds.
CALL_SECONDS = 60.0
#: submitit gives up on a job after so many time limits; a long cell may need any number of them.
TIME_LIMITS = 100_000
#: What sbatch says, in part, what that means here, and the key that mends it.
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


class Unreachable(Exception):
    """Slurm did not answer, or not this question; says why in one line."""


class Slurm:
    """Slurm's commands; ``log`` is told of every call: how many there are is part of being kind to a cluster."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log

    def ask(self, *command: str) -> str:
        """What a command prints.

        Raises:
            UserError: it is not on this machine.
            Unreachable: it failed, or took too long.
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
        """These users' jobs by task id, of those too that ended some minutes ago; and their ids by name."""
        whose = ",".join(sorted(users))
        lines = self.ask("squeue", "-h", "-r", "-u", whose, "-t", "all", "-o", "%i|%T|%r|%j").splitlines()
        said, names = {}, {}
        for line in lines:
            task, state, why, name = line.split("|", 3)
            said[task] = JobStatus(state, "" if why == "None" else why)
            names[name] = task.partition("_")[0]
        return said, names

    def past(self, jobs: Collection[str], since: float) -> dict[str, JobStatus]:
        """What accounting says of jobs, by task id; without it, nothing."""
        if not jobs:
            return {}
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 3600))
        found = self.ask(
            "sacct", "-X", "-n", "-P", "-S", begin, "-j", ",".join(sorted(jobs)), "-o", "JobID,State,ExitCode"
        )
        said = {}
        for line in found.splitlines():
            task, state, code = line.split("|", 2)
            said[task] = JobStatus(state.split()[0], f"exit code {code}" if code != "0:0" else state)
        return said

    def job_named(self, name: str, since: float) -> str:
        """The id of a job that accounting knows by this name; empty where there is none."""
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 3600))
        found = self.ask("sacct", "-X", "-n", "-P", "-S", begin, "--name", name, "-o", "JobID").split()
        return found[0].partition("_")[0] if found else ""

    def most_array_tasks(self) -> int:
        """MaxArraySize, above which an index may not go."""
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", self.ask("scontrol", "show", "config"))
        return max(1, int(found[1])) if found else 1001  # 0: the cluster has no arrays, and every cell a job of its own

    def cancel(self, tasks: Collection[str]) -> None:
        if tasks:
            self.ask("scancel", *sorted(tasks))


def no_slurm(command: str) -> UserError:
    return UserError(
        f"there is no {command} on this machine",
        where="cluster.scheduler",
        allowed="slurm on a login node of a cluster, none elsewhere",
        next_command="cluster=local, or the same command on a login node",
    )


@dataclass(frozen=True)
class Profile:
    """``cluster``: the declared values; ``folder``: where scripts and Slurm's own output go, visible from the nodes."""

    cluster: Mapping[str, Any]
    folder: Path

    def script(self, name: str, comment: str, tasks: int, given: Resources) -> str:
        """The batch script that ``submit`` hands to sbatch."""
        executor = self._executor(name, comment, given)
        if tasks > 1:
            executor.parameters["map_count"] = tasks
        return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def submit(self, name: str, comment: str, tasks: Sequence[Sequence[Path]], given: Resources) -> str:
        """Hand one batch, an array where it has several tasks, to sbatch; return its job's id.

        Raises:
            UserError: Slurm refuses it, and what to change.
            Unreachable: Slurm does not answer; the batch may be in the queue, or not.
        """
        from submitit.core.utils import FailedJobError

        executor = self._executor(name, comment, given)
        try:
            with outside_of_jobs(), executor.batch():
                jobs = [executor.submit(JobTask(tuple(str(record) for record in task))) for task in tasks]
        except FailedJobError as error:
            raise refused(str(error)) from None
        return str(jobs[0].job_id).partition("_")[0]

    def complete(self, job: str, tasks: Sequence[Sequence[Path]]) -> None:
        """What submitit leaves for each task to find, for a job whose submitter died before it had."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        for number, task in enumerate(tasks):
            submission = DelayedSubmission(JobTask(tuple(str(record) for record in task)))
            submission.set_timeout(int(self.cluster["time"]), TIME_LIMITS)
            path = JobPaths(self.folder, job_id=f"{job}_{number}" if len(tasks) > 1 else job).submitted_pickle
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                submission.dump(path)

    def _executor(self, name: str, comment: str, given: Resources) -> Any:
        from submitit.slurm.slurm import SlurmExecutor

        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise no_slurm("sbatch")
        executor = SlurmExecutor(self.folder, max_num_timeout=TIME_LIMITS, python=self.cluster["python"])
        executor.update_parameters(**self._parameters(name, comment, given))
        return executor

    def _parameters(self, name: str, comment: str, given: Resources) -> dict[str, Any]:
        cluster = self.cluster
        more = {"requeue" if cluster["requeue"] else "no-requeue": True, **cluster["sbatch"]}
        setup = [*cluster["setup"]]
        if cluster["interface"]:
            setup += [f"export {library}_SOCKET_IFNAME={cluster['interface']}" for library in ("NCCL", "GLOO")]
        kind = f"{cluster['gpu_type']}:" if cluster["gpu_type"] else ""
        return {
            "job_name": name,
            "comment": comment,
            "partition": cluster["partition"],
            "account": cluster["account"],
            "qos": cluster["qos"],
            "constraint": cluster["constraint"],
            "time": max(1, round(given.time or 0)),
            "nodes": given.nodes,
            "ntasks_per_node": given.gpus,
            "cpus_per_task": cluster["cpus"],
            "gpus_per_node": f"{kind}{given.gpus}" if cluster["device"] == "cuda" else None,
            "mem": f"{round(cluster['memory'] * 1024)}M" if cluster["memory"] else None,
            "signal_delay_s": cluster["grace"],
            "array_parallelism": cluster["throttle"] or 100_000,
            "wckey": None,
            "setup": setup or None,
            # A rank that dies ends the job: the others would wait for it until the time limit.
            "srun_args": ["--export=ALL", "--kill-on-bad-exit=1", *cluster["srun"]],
            "additional_parameters": more,
        }


def _error(said: str) -> str:
    """The line that says what is wrong, of what a command wrote."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no word"]
    wrong = [line for line in lines if re.search("error|unrecognized|invalid", line, re.IGNORECASE)]
    return (wrong or lines)[-1]


def refused(said: str) -> UserError | Unreachable:
    """sbatch's words, with the key of the profile that mends them."""
    last = re.sub(r"^(sbatch: )+(error: )?", "", _error(said))
    for pattern, meaning, key in REFUSALS:
        if re.search(pattern, said, re.IGNORECASE):
            if not key:
                return Unreachable(f"{meaning} ({last})")
            names = ", ".join(f"cluster.{name}" for name in key.split(", "))
            return UserError(
                f"Slurm refuses the job: {meaning} ({last})", where=names, next_command="harness doctor cluster=NAME"
            )
    return UserError(f"Slurm refuses the job: {last}", where="cluster", next_command="harness doctor cluster=NAME")


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Without the variables of the job that this may run in, which sbatch would take as options of the new one."""
    inside = "SLURM_JOB_ID" in os.environ
    own = [name for name in os.environ if re.match("SLURM_|SUBMITIT_", name) and name != "SLURM_CONF"] if inside else []
    inherited = {name: os.environ.pop(name) for name in own}
    try:
        yield
    finally:
        os.environ |= inherited
