"""A job of a minute that checks a cluster: what its nodes see, and whether they reach each other.

The job goes through srun, whose output comes back without a shared folder, with the options of a sweep's batch script.
Its processes run ``harness.ssl.measure.node_check``.
"""

from __future__ import annotations

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
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from harness.environment.diagnosis import Diagnosis
from harness.environment.revision import source_hash
from harness.environment.user import user_name
from harness.errors import UserError
from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.expand.resources import Resources
from harness.sweep.slurm.commands import Profile, Slurm, Unreachable, outside_of_jobs, refused

#: How long the check waits until the job starts, and until its processes have answered; the job's time limit.
START_SECONDS, RUN_SECONDS, MINUTES = 60, 150, 3
#: How long a slow file system may take to show a file that another machine has written.
SEEN_SECONDS = 5.0
#: Options of sbatch that srun does not know, or that concern a batch script's output.
ONLY_SBATCH = {"array", "error", "hold", "open-mode", "output", "requeue", "no-requeue", "signal", "wckey", "time"}
#: Slurm's message about a process that used more memory than it asked for.
MEMORY_EXCEEDED = re.compile("memory limit|oom.kill|out of memory", re.IGNORECASE)
#: The reasons of a job that waits because of the user's or the account's limits.
LIMITED = re.compile("QOS|Assoc|Limit|Account")


@dataclass(frozen=True)
class RankReport:
    """What the process of a rank has printed (``harness.ssl.measure.node_check``).

    Attributes:
        host: the name of its node.
        token: what it has read in the folder of results; empty if it could not.
        files: why it could not read or write there.
        python, torch: the versions that it runs with.
        gpus: the names of the GPUs that torch sees.
        sources: the hash of the code of harness.
        harness: the folder of that code.
        network: why it does not reach the other ranks; empty if it does, None if it has ended before.
        ranks: how many ranks it has reached, itself included.
        speed: bytes per second of a sum over the ranks.
    """

    host: str = ""
    token: str = ""
    files: str = ""
    python: str = ""
    torch: str = ""
    gpus: Sequence[str] = ()
    sources: str = ""
    harness: str = ""
    network: str | None = None
    ranks: int = 0
    speed: float = 0.0


@dataclass
class NodeReport:
    """What the processes of the job have answered.

    Attributes:
        ranks: the answers by rank.
        errors: the last error line of the ranks without an answer.
        srun: the last line of srun itself.
        setup: the line that says what failed in ``cluster.setup``.
        memory: the line that says that memory was too small.
        refusal: why the job never ran, and the fix.
    """

    ranks: dict[int, RankReport] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    srun: str = ""
    setup: str = ""
    memory: str = ""
    refusal: tuple[str, str] = ("", "")
    seconds: float = 0.0

    @property
    def hosts(self) -> list[str]:
        """The names of the nodes that have answered."""
        return sorted({rank.host for rank in self.ranks.values()})

    @property
    def hosts_by_torch(self) -> dict[str, list[str]]:
        """The names of the nodes by their version of torch."""
        hosts: dict[str, set[str]] = {}
        for rank in self.ranks.values():
            hosts.setdefault(rank.torch, set()).add(rank.host)
        return {version: sorted(names) for version, names in hosts.items()}


@dataclass(frozen=True)
class Probe:
    """The job on so many nodes, which must see the folder ``results``."""

    cluster: ClusterConfig
    nodes: int
    results: Path
    slurm: Slurm

    @property
    def size(self) -> int:
        """The number of ranks of the job, one for each GPU."""
        return self.nodes * self.cluster.gpus

    def run(self) -> Iterator[Diagnosis]:
        """Run the job and yield what it shows."""
        token = secrets.token_hex(16)
        try:
            with temporary_below(self.results / "doctor") as folder:
                (folder / "token").write_text(token, encoding="utf-8")
                report = self._ask(folder)
                came_back = self._wait_for(folder, token, report)
        except OSError as error:
            yield Diagnosis("results", f"{self.results} cannot be written: {error.strerror}", "--results OTHER_FOLDER")
            return
        if report.refusal[0]:
            yield Diagnosis("probe job", *report.refusal)
            return
        yield from self._diagnoses(report, token, came_back)

    def command(self, folder: Path, name: str) -> list[str]:
        """Return the command line: srun with the options of a sweep's job, and its lines before Python."""
        resources = Resources(self.cluster.gpus, self.nodes, min(MINUTES, max(1, round(self.cluster.time or 0))))
        script = Profile(self.cluster, folder).script(name, "harness doctor", 1, resources)
        options = re.findall(r"^#SBATCH (--([\w-]+).*)$", script, re.MULTILINE)
        setup = re.search(r"^# setup\n(.*?)\n\n# command$", script, re.MULTILINE | re.DOTALL)
        python = self.cluster.python or shlex.quote(sys.executable)
        check = f"{python} -P -u -m harness.ssl.measure.node_check {shlex.quote(str(folder))} {self.cluster.device}"
        lines = [*([setup[1]] if setup else []), "export SUBMITIT_EXECUTOR=slurm", f"exec {check}"]
        return [
            "srun", "--label", "--export=ALL", f"--immediate={START_SECONDS}", f"--time={resources.time:g}",
            *[word for whole, key in options if key not in ONLY_SBATCH for word in shlex.split(whole)],
            *self.cluster.srun,
            "bash", "-c", "\n".join(lines),
        ]  # fmt: skip

    def _ask(self, folder: Path) -> NodeReport:
        """Run the job to its end, or until it takes too long; in any case no job is left."""
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
        """Return why the job still waits; the empty string if it does not."""
        with suppress(Unreachable):
            reason = self.slurm.ask("squeue", "-h", "-n", name, "-u", user_name(), "-t", "PENDING", "-o", "%r")
            return reason.strip()
        return ""

    def _wait_for(self, folder: Path, token: str, report: NodeReport) -> set[int]:
        """Return the ranks whose file is seen on this machine."""
        expected = {rank for rank, answer in report.ranks.items() if answer.token == token}
        deadline = time.monotonic() + SEEN_SECONDS
        while True:
            seen = {rank for rank in expected if (folder / f"rank-{rank}").exists()}
            if seen == expected or time.monotonic() > deadline:
                return seen
            time.sleep(0.2)

    def _diagnoses(self, report: NodeReport, token: str, came_back: set[int]) -> Iterator[Diagnosis]:
        per_node = f"{self.cluster.gpus} process{'es' if self.cluster.gpus > 1 else ''} on each"
        silent = [rank for rank in range(self.size) if rank not in report.ranks]
        if report.memory:
            fix = "cluster.memory: more, or none; torch alone needs some hundred MB for each process"
            yield Diagnosis("memory", f"processes were killed: {report.memory}", fix)
        elif silent:
            error = next((report.errors[rank] for rank in silent if rank in report.errors), report.srun or "no message")
            what = f"{len(silent)} of {self.size} processes did not get so far: {error}"
            yield Diagnosis("probe job", what, python_fix())
        if not report.ranks or report.memory:
            return
        if not silent:
            yield Diagnosis("probe job", f"{', '.join(report.hosts)}: {per_node}, {report.seconds:.0f} s")
        if report.setup:
            yield Diagnosis("setup", report.setup, "cluster.setup; jobs go on all the same", needed=False)
        yield self._results(report, token, came_back)
        yield self._torch(report)
        yield self._code(report)
        blind = self.cluster.device == "cuda" and (yield from self._gpus(report))
        if not silent and not blind:
            yield self._network(report)

    def _results(self, report: NodeReport, token: str, came_back: set[int]) -> Diagnosis:
        fix = "--results FOLDER, one that all nodes see at the same path"
        blind = {
            rank.host: rank.files or "another file is there" for rank in report.ranks.values() if rank.token != token
        }
        if blind:
            host, why = next(iter(blind.items()))
            return Diagnosis(
                "results", f"{self.results.absolute()} is not seen from {', '.join(blind)} ({host}: {why})", fix
            )
        if lost := {answer.host for rank, answer in report.ranks.items() if rank not in came_back}:
            return Diagnosis("results", f"what {', '.join(sorted(lost))} writes there is not seen here", fix)
        return Diagnosis("results", f"{self.results}: read and written from {', '.join(report.hosts)}")

    def _torch(self, report: NodeReport) -> Diagnosis:
        by_version = report.hosts_by_torch
        own_version = importlib.metadata.version("torch")
        if len(by_version) > 1:
            what = "; ".join(f"{version} on {', '.join(hosts)}" for version, hosts in by_version.items())
            return Diagnosis("torch", what, "cluster.python, cluster.setup: the same on all nodes")
        version, python = next(iter(by_version)), ", ".join(sorted({rank.python for rank in report.ranks.values()}))
        if version.partition("+")[0] != own_version.partition("+")[0]:
            what = f"{version} on the nodes, {own_version} here"
            return Diagnosis("torch", what, "cluster.python: the environment that you want numbers of", needed=False)
        return Diagnosis("torch", f"{version}, Python {python}")

    def _gpus(self, report: NodeReport) -> Generator[Diagnosis, None, bool]:
        """Check the GPUs that torch sees; return whether some are missing."""
        wanted = self.cluster.gpus
        counts = {rank.host: rank.gpus for rank in report.ranks.values()}
        missing = {host: names for host, names in counts.items() if len(names) < wanted}
        if missing:
            what = ", ".join(f"{len(names)} on {host}" for host, names in missing.items())
            fix = "cluster.gpus, cluster.gpu_type; or cluster.python: a CUDA build of torch that fits the nodes' driver"
            if all(missing.values()):
                fix = "cluster.srun=[--gpu-bind=none], if each process is shown only its own; else cluster.gpus"
            yield Diagnosis("GPUs", f"torch sees {what}, and not {wanted}", fix)
            return True
        kinds = ", ".join(sorted({name for names in counts.values() for name in names}))
        yield Diagnosis("GPUs", f"torch sees {wanted} on each: {kinds}")
        return False

    def _code(self, report: NodeReport) -> Diagnosis:
        other = [rank for rank in report.ranks.values() if rank.sources != source_hash()]
        if other:
            sources, host, folder = other[0].sources, other[0].host, other[0].harness
            what = f"{sources} on {host} ({folder}), {source_hash()} here: jobs would refuse to start"
            return Diagnosis("code", what, "cluster.python, cluster.setup: a Python that imports this harness")
        return Diagnosis("code", f"sources {source_hash()}, on the nodes and here")

    def _network(self, report: NodeReport) -> Diagnosis:
        library = "nccl" if self.cluster.device == "cuda" else "gloo"
        if self.size == 1:
            return Diagnosis(library, "one process: nothing to connect")
        wrong = [rank for rank in report.ranks.values() if rank.network != ""]
        if wrong:
            host, why = wrong[0].host, wrong[0].network or "the process ended before it had reached the others"
            fix = "cluster.interface=NAME, the network between nodes, such as ib0 (on a node: ip -br addr)"
            if "ModuleNotFoundError" in why or "ImportError" in why:
                fix = python_fix()
            return Diagnosis(library, f"{self.size} processes do not reach each other ({host}: {why})", fix)
        if (ranks := {rank.ranks for rank in report.ranks.values()}) != {self.size}:
            return Diagnosis(
                library, f"each process counts {ranks} processes", "cluster.srun, cluster.sbatch: no -n there"
            )
        speed = min(rank.speed for rank in report.ranks.values())
        return Diagnosis(
            library, f"{self.size} processes on {len(report.hosts)} nodes have the same sum, {speed / 1e9:.2g} GB/s"
        )


def python_fix() -> str:
    """Return the fix for nodes whose Python cannot import harness."""
    return f"cluster.python, cluster.setup: the nodes must have this Python, with harness ({sys.executable})"


def waiting_fix(why: str) -> str:
    """Return the fix for a job that waits for this reason."""
    if LIMITED.search(why):
        return "cluster.qos, cluster.account, cluster.partition: a limit of theirs holds the job back"
    return "harness doctor again when nodes are free, or cluster.partition=ANOTHER"


@contextmanager
def temporary_below(folder: Path) -> Iterator[Path]:
    """Make a new folder; remove it afterwards, with the parents that were made for it."""
    path = folder / f"probe-{secrets.token_hex(4)}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        for parent in (folder, folder.parent):
            with suppress(OSError):  # the folder has other content
                parent.rmdir()


def stop(process: subprocess.Popen[str], name: str) -> tuple[str, str]:
    """End srun and its job, if they still run; return the rest of what srun printed."""
    if process.returncode is not None:
        return "", ""
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(Unreachable, UserError):
            Slurm(lambda line: None).ask("scancel", "-n", name, "-u", user_name())
        return process.communicate()


def read(out: str, err: str, seconds: float) -> NodeReport:
    """Read the report from srun's lines, ``0: {...}``: the label is the rank; lines of srun itself have none."""
    report = NodeReport(_ranks(out), seconds=seconds)
    errors = _labelled(err)
    report.setup = next(
        (line for rank, line in errors if rank in report.ranks and re.search(r"\bbash: line \d", line)), ""
    )
    report.memory = next(
        (re.sub(r"^\s*\d+: ", "", line) for line in err.splitlines() if MEMORY_EXCEEDED.search(line)), ""
    )
    report.errors = {rank: line for rank, line in errors if rank not in report.ranks}
    of_srun = [line for line in err.splitlines() if line.strip() and not re.match(r"\s*\d+: ", line)]
    report.srun = of_srun[-1] if of_srun else ""
    if not report.ranks and not report.errors:
        report.refusal = _refusal(of_srun)
    return report


def _ranks(out: str) -> dict[int, RankReport]:
    """Return the reports of the ranks: each prints a line before it meets the others, and one afterwards."""
    ranks: dict[int, RankReport] = {}
    for _, line in _labelled(out):
        with suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict) and "rank" in content:
                known = {item.name: content[item.name] for item in fields(RankReport) if item.name in content}
                ranks[content["rank"]] = replace(ranks.get(content["rank"], RankReport()), **known)
    return {rank: report for rank, report in ranks.items() if report.host}


def _labelled(text: str) -> list[tuple[int, str]]:
    matches = (re.match(r"\s*(\d+): (.*\S)", line) for line in text.splitlines())
    return [(int(match[1]), match[2]) for match in matches if match]


def _refusal(lines: Sequence[str]) -> tuple[str, str]:
    """Return from srun's lines why the job never ran or its processes never began, and the fix."""
    text = "\n".join(lines).replace("srun: error: ", "error: ")
    if unknown := re.search("(unrecognized|invalid|ambiguous) option.*", text):
        return f"srun: {unknown[0]}", "cluster.srun, cluster.sbatch"
    if re.search("immediate|nodes are busy|insufficient priority", text, re.IGNORECASE):
        return "did not start within a minute: no free nodes", waiting_fix("")
    why = refused(text)
    if isinstance(why, UserError):
        return why.what, f"change {why.where}"
    return str(why), "harness doctor again, once Slurm answers"
