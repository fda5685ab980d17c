"""A job of a minute that tries a cluster: what its nodes see, and whether they reach each other.

It goes through srun, whose words come back without a shared folder, with the options that a sweep's batch script has.
``harness.ssl.measure.node_check`` is what its processes do.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.environment.revision import source_hash
from harness.errors import UserError
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable, outside_of_jobs, refused
from harness.sweep.slurm.diagnosis import Diagnosis

#: Until the job starts, and until its processes have said what they see; Slurm ends it after so many minutes.
START_SECONDS, RUN_SECONDS, MINUTES = 60, 150, 3
#: Slow file systems show a file some seconds after another machine has written it.
SEEN_SECONDS = 5.0
#: Of a batch script and not of srun, or of a batch script's output.
ONLY_SBATCH = {"array", "error", "hold", "open-mode", "output", "requeue", "no-requeue", "signal", "wckey", "time"}
#: What Slurm says where a process had more memory than it asked for.
LACKED = re.compile("memory limit|oom.kill|out of memory", re.IGNORECASE)
#: Why a job waits: the user's or the account's limits.
LIMITED = re.compile("QOS|Assoc|Limit|Account")


@dataclass
class NodeReport:
    """``ranks``: what each said, by rank; ``errors``: the last line of those that said something else; ``srun``: its
    own last line; ``setup``: what failed in ``cluster.setup``; ``memory``: that it was lacking; ``refusal``: why the
    job never ran, with what mends it."""

    ranks: dict[int, dict[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    srun: str = ""
    setup: str = ""
    memory: str = ""
    refusal: tuple[str, str] = ("", "")
    seconds: float = 0.0

    @property
    def hosts(self) -> list[str]:
        return sorted({one["host"] for one in self.ranks.values()})

    def on(self, key: str) -> dict[str, list[str]]:
        """The hosts by what they said."""
        found: dict[str, set[str]] = {}
        for one in self.ranks.values():
            found.setdefault(one[key], set()).add(one["host"])
        return {value: sorted(hosts) for value, hosts in found.items()}


@dataclass(frozen=True)
class Probe:
    """``nodes``: how many; ``results``: what they must see."""

    cluster: ClusterConfig
    nodes: int
    results: Path
    slurm: Slurm

    @property
    def size(self) -> int:
        return self.nodes * self.cluster.gpus

    def run(self) -> Iterator[Diagnosis]:
        token = secrets.token_hex(16)
        try:
            with temporary_below(self.results / "doctor") as folder:
                (folder / "token").write_text(token, encoding="utf-8")
                said = self._ask(folder)
                came_back = self._wait_for(folder, token, said)
        except OSError as error:
            yield Diagnosis("results", f"{self.results} cannot be written: {error.strerror}", "--results OTHER_FOLDER")
            return
        if said.refusal[0]:
            yield Diagnosis("probe job", *said.refusal)
            return
        yield from self._findings(said, token, came_back)

    def command(self, folder: Path, name: str) -> list[str]:
        """What is run: the options of a sweep's job, and its lines before Python."""
        given = Resources(self.cluster.gpus, self.nodes, min(MINUTES, max(1, round(self.cluster.time or 0))))
        script = Profile(self.cluster, folder).script(name, "harness doctor", 1, given)
        options = re.findall(r"^#SBATCH (--([\w-]+).*)$", script, re.MULTILINE)
        setup = re.search(r"^# setup\n(.*?)\n\n# command$", script, re.MULTILINE | re.DOTALL)
        python = self.cluster.python or shlex.quote(sys.executable)
        ours = f"{python} -u -m harness.ssl.measure.node_check {shlex.quote(str(folder))} {self.cluster.device}"
        lines = [*([setup[1]] if setup else []), "export SUBMITIT_EXECUTOR=slurm", f"exec {ours}"]
        return [
            "srun", "--label", "--export=ALL", f"--immediate={START_SECONDS}", f"--time={given.time:g}",
            *[word for whole, key in options if key not in ONLY_SBATCH for word in shlex.split(whole)],
            *self.cluster.srun,
            "bash", "-c", "\n".join(lines),
        ]  # fmt: skip

    def _ask(self, folder: Path) -> NodeReport:
        """Run it to its end, or to that of our patience; it is gone afterwards, whatever happens."""
        name = f"harness-doctor-{folder.name.rsplit('-', 1)[-1]}"
        with outside_of_jobs():
            process = subprocess.Popen(
                self.command(folder.absolute(), name), text=True, errors="replace", stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        began, why = time.monotonic(), ""
        try:
            out, err = "", ""
            with suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=START_SECONDS - 5)
            if process.returncode is None and (why := self._waits(name)):
                return NodeReport(refusal=(f"did not start within a minute ({why})", waiting_fix(why)))
            if process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=RUN_SECONDS)
        finally:
            rest = stop(process, name)
        return read(out or rest[0], err or rest[1], time.monotonic() - began)

    def _waits(self, name: str) -> str:
        """Why the job still waits; empty where it does not."""
        with suppress(Unreachable):
            said = self.slurm.ask("squeue", "-h", "-n", name, "-u", getpass.getuser(), "-t", "PENDING", "-o", "%r")
            return said.strip()
        return ""

    def _wait_for(self, folder: Path, token: str, said: NodeReport) -> set[int]:
        """Those ranks whose file is seen here."""
        wanted = {rank for rank, one in said.ranks.items() if one["token"] == token}
        deadline = time.monotonic() + SEEN_SECONDS
        while True:
            found = {rank for rank in wanted if (folder / f"rank-{rank}").exists()}
            if found == wanted or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def _findings(self, said: NodeReport, token: str, came_back: set[int]) -> Iterator[Diagnosis]:
        per_node = f"{self.cluster.gpus} process{'es' if self.cluster.gpus > 1 else ''} on each"
        silent = [rank for rank in range(self.size) if rank not in said.ranks]
        if said.memory:
            fix = "cluster.memory: more, or none; torch alone needs some hundred MB for each process"
            yield Diagnosis("memory", f"processes were killed: {said.memory}", fix)
        elif silent:
            words = next((said.errors[rank] for rank in silent if rank in said.errors), said.srun or "not a word")
            what = f"{len(silent)} of {self.size} processes did not get so far: {words}"
            yield Diagnosis("probe job", what, python_fix())
        if not said.ranks or said.memory:
            return
        if not silent:
            yield Diagnosis("probe job", f"{', '.join(said.hosts)}: {per_node}, {said.seconds:.0f} s")
        if said.setup:
            yield Diagnosis("setup", said.setup, "cluster.setup; jobs go on all the same", needed=False)
        yield self._results(said, token, came_back)
        yield self._torch(said)
        yield self._code(said)
        blind = self.cluster.device == "cuda" and (yield from self._gpus(said))
        if not silent and not blind:
            yield self._network(said)

    def _results(self, said: NodeReport, token: str, came_back: set[int]) -> Diagnosis:
        fix = "--results FOLDER, one that all nodes see at the same path"
        blind = {
            one["host"]: one["files"] or "another file is there" for one in said.ranks.values() if one["token"] != token
        }
        if blind:
            host, why = next(iter(blind.items()))
            return Diagnosis(
                "results", f"{self.results.absolute()} is not seen from {', '.join(blind)} ({host}: {why})", fix
            )
        if lost := {one["host"] for rank, one in said.ranks.items() if rank not in came_back}:
            return Diagnosis("results", f"what {', '.join(sorted(lost))} writes there is not seen here", fix)
        return Diagnosis("results", f"{self.results}: read and written from {', '.join(said.hosts)}")

    def _torch(self, said: NodeReport) -> Diagnosis:
        found = said.on("torch")
        here = importlib.metadata.version("torch")
        if len(found) > 1:
            what = "; ".join(f"{version} on {', '.join(hosts)}" for version, hosts in found.items())
            return Diagnosis("torch", what, "cluster.python, cluster.setup: the same on all nodes")
        version, python = next(iter(found)), ", ".join(said.on("python"))
        if version.partition("+")[0] != here.partition("+")[0]:
            what = f"{version} on the nodes, {here} here"
            return Diagnosis("torch", what, "cluster.python: the environment that you want numbers of", needed=False)
        return Diagnosis("torch", f"{version}, Python {python}")

    def _gpus(self, said: NodeReport) -> Generator[Diagnosis, None, bool]:
        """Returns whether some are lacking."""
        wanted = self.cluster.gpus
        counts = {one["host"]: one["gpus"] for one in said.ranks.values()}
        lacking = {host: names for host, names in counts.items() if len(names) < wanted}
        if lacking:
            what = ", ".join(f"{len(names)} on {host}" for host, names in lacking.items())
            fix = "cluster.gpus, cluster.gpu_type; or cluster.python: a CUDA build of torch that fits the nodes' driver"
            if all(lacking.values()):
                fix = "cluster.srun=[--gpu-bind=none], if each process is shown only its own; else cluster.gpus"
            yield Diagnosis("GPUs", f"torch sees {what}, and not {wanted}", fix)
            return True
        kinds = ", ".join(sorted({name for names in counts.values() for name in names}))
        yield Diagnosis("GPUs", f"torch sees {wanted} on each: {kinds}")
        return False

    def _code(self, said: NodeReport) -> Diagnosis:
        other = {one["host"]: one for one in said.ranks.values() if one["sources"] != source_hash()}
        if other:
            host, one = next(iter(other.items()))
            what = f"{one['sources']} on {host} ({one['harness']}), {source_hash()} here: jobs would refuse to start"
            return Diagnosis("code", what, "cluster.python, cluster.setup: a Python that imports this harness")
        return Diagnosis("code", f"sources {source_hash()}, here and there")

    def _network(self, said: NodeReport) -> Diagnosis:
        library = "nccl" if self.cluster.device == "cuda" else "gloo"
        if self.size == 1:
            return Diagnosis(library, "one process: nothing to connect")
        wrong = {one["host"]: one.get("network", "the process ended before it had reached the others")
                 for one in said.ranks.values() if one.get("network", "?")}  # fmt: skip
        if wrong:
            host, why = next(iter(wrong.items()))
            fix = "cluster.interface=NAME, the network between nodes, such as ib0 (on a node: ip -br addr)"
            if "ModuleNotFoundError" in why or "ImportError" in why:
                fix = python_fix()
            return Diagnosis(library, f"{self.size} processes do not reach each other ({host}: {why})", fix)
        if (ranks := {one["ranks"] for one in said.ranks.values()}) != {self.size}:
            return Diagnosis(
                library, f"processes think that there are {ranks}", "cluster.srun, cluster.sbatch: no -n there"
            )
        speed = min(one["speed"] for one in said.ranks.values())
        return Diagnosis(
            library, f"{self.size} processes on {len(said.hosts)} nodes have the same sum, {speed / 1e9:.2g} GB/s"
        )


def python_fix() -> str:
    return f"cluster.python, cluster.setup: the nodes must have this Python, with harness ({sys.executable})"


def waiting_fix(why: str) -> str:
    if LIMITED.search(why):
        return "cluster.qos, cluster.account, cluster.partition: a limit of theirs holds the job back"
    return "harness doctor again when nodes are free, or cluster.partition=ANOTHER"


@contextmanager
def temporary_below(folder: Path) -> Iterator[Path]:
    """A new folder, gone afterwards, with those that were made for it."""
    path = folder / f"probe-{secrets.token_hex(4)}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        for parent in (folder, folder.parent):
            with suppress(OSError):  # something else is there
                parent.rmdir()


def stop(process: subprocess.Popen[str], name: str) -> tuple[str, str]:
    """End srun, and its job with it, if they have not; what it printed."""
    if process.returncode is not None:
        return "", ""
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(Unreachable, UserError):
            Slurm(lambda line: None).ask("scancel", "-n", name, "-u", getpass.getuser())
        return process.communicate()


def read(out: str, err: str, seconds: float) -> NodeReport:
    """From srun's labelled lines, ``0: {...}``; what srun itself says has no label."""
    said = NodeReport(seconds=seconds)
    for _, line in _labelled(out):
        with suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict) and "rank" in content:
                said.ranks.setdefault(content["rank"], {}).update(content)
    said.ranks = {rank: one for rank, one in said.ranks.items() if "host" in one}
    words = _labelled(err)
    said.setup = next((line for rank, line in words if rank in said.ranks and re.search(r"\bbash: line \d", line)), "")
    said.memory = next((re.sub(r"^\s*\d+: ", "", line) for line in err.splitlines() if LACKED.search(line)), "")
    said.errors = {rank: line for rank, line in words if rank not in said.ranks}
    own = [line for line in err.splitlines() if line.strip() and not re.match(r"\s*\d+: ", line)]
    said.srun = own[-1] if own else ""
    if not said.ranks and not said.errors:
        said.refusal = _refusal(own)
    return said


def _labelled(text: str) -> list[tuple[int, str]]:
    found = (re.match(r"\s*(\d+): (.*\S)", line) for line in text.splitlines())
    return [(int(one[1]), one[2]) for one in found if one]


def _refusal(own: Sequence[str]) -> tuple[str, str]:
    """srun's words: the job never ran, or its processes never began."""
    text = "\n".join(own).replace("srun: error: ", "error: ")
    if unknown := re.search("(unrecognized|invalid|ambiguous) option.*", text):
        return f"srun: {unknown[0]}", "cluster.srun, cluster.sbatch"
    if re.search("immediate|nodes are busy|insufficient priority", text, re.IGNORECASE):
        return "did not start within a minute: no free nodes", waiting_fix("")
    why = refused(text)
    if isinstance(why, UserError):
        return why.what, f"change {why.where}"
    return str(why), "harness doctor again, once Slurm answers"
