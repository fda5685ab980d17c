"""The development cluster's commands, for tests; and whether it is there."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

START = "slurm/dev-cluster install && slurm/dev-cluster up"
CALL_SECONDS = 90.0
WORKING = {"idle", "mixed", "allocated", "completing"}


@dataclass
class Cluster:
    """Slurm's commands, for tests; ``jobs``: those submitted here, cancelled at the end."""

    conf: Path
    jobs: list[str] = field(default_factory=list)

    def ask(self, *command: str) -> str:
        """What a command prints that may not fail."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def submit(self, script: str, output: Path, *options: str) -> str:
        """A job of this shell script, which prints into ``output``, also when it runs again; its id."""
        path = output.with_suffix(".sh")
        path.write_text(f"#!/bin/bash\n{script}\n")
        command = ["sbatch", "--parsable", f"--output={output}", "--open-mode=append", *options, str(path)]
        self.jobs.append(self.ask(*command).strip())
        return self.jobs[-1]

    def state(self, job: str) -> str:
        return self.ask("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def runs(self, job: str) -> list[str]:
        """How each run of a job ended, or goes, by the accounting."""
        return self.ask("sacct", "-D", "-X", "-n", "-P", "-j", job, "-o", "State").split()

    def node_state(self, name: str) -> str:
        return self.ask("sinfo", "-h", "-p", "main", "-n", name, "-o", "%T").strip()

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            queue = self.ask("squeue", "-t", "all") if time.monotonic() > deadline else ""
            assert not queue, f"not within {seconds:.0f} seconds: {what}\n{queue}"
            time.sleep(0.25)

    def ended(self, job: str, *runs: str) -> None:
        """Wait until the accounting says so of a job's runs."""
        self.until(lambda: self.runs(job) == [*runs], f"job {job}: {', '.join(runs)}")


def configuration() -> Path:
    """Slurm's configuration: that of the environment, else that of the development cluster."""
    folder = Path(os.environ.get("HARNESS_SLURM_DIR", "/tmp/harness-slurm"))
    return Path(os.environ.get("SLURM_CONF", folder / "slurm.conf"))


def missing(conf: Path) -> str:
    """Why there is no development cluster here; empty where there is."""
    if not conf.is_file():
        return f"there is no {conf}"
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=CALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return f"Slurm does not answer ({done.stderr.strip().splitlines()[-1]})"
    return "" if "= harness-dev\n" in done.stdout else f"{conf} is that of another cluster"
