"""What is made of Slurm's words; a real Slurm is asked in tests/slurm/test_doctor.py."""

from __future__ import annotations

from typing import Any

import pytest

from harness.sweep.declare.schema import ClusterConfig
from harness.sweep.slurm.commands import Unreachable
from harness.sweep.slurm.preflight import Checks, minutes, partitions

SINFO = """\
gpu|gpu*|up|2-00:00:00|6|mixed|64|515000|gpu:a100:4(S:0-3)|(null)
gpu|gpu*|up|2-00:00:00|2|idle~|32|257000|gpu:v100:8(S:0-1),nic:2
gpu|gpu*|up|2-00:00:00|1|drained|64|515000|gpu:a100:4(S:0-3)
gpu|gpu*|up|2-00:00:00|1|idle*|64|515000|gpu:a100:4(S:0-3)
long|long|up|infinite|3|down|128|1030000+|(null)
debug|debug|inact|30:00|2|idle|8|16000|gpu:2
"""


class Words:
    """Answers as a Slurm would, by the first words of the question."""

    def __init__(self) -> None:
        self.answers = {
            "scontrol ping": "Slurmctld(primary) at head1 is DOWN\nSlurmctld(backup) at head2 is UP\n",
            "sinfo -V": "slurm 24.05.3",
            "sinfo -h": SINFO,
            "scontrol show": "MaxArraySize            = 1001\nPreemptMode             = REQUEUE\n"
            "AccountingStorageEnforce = associations,limits,qos,safe\nSlurmctldParameters     = (null)\n",
            "sacct -X": "",
            "sacctmgr -n": "science|normal,high\nlab|normal\n",
            "sbatch --test-only": "",
        }

    def ask(self, *command: str) -> str:
        answer = self.answers[" ".join(command[:2])]
        if answer.startswith("error: "):
            raise Unreachable(f"{command[0]}: {answer.removeprefix('error: ')}")
        return answer


def found(monkeypatch: pytest.MonkeyPatch, slurm: Words | None = None, **cluster: Any) -> list[tuple[str, str]]:
    """What lacks or is noted, and its remedy."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    profile = ClusterConfig(**{"scheduler": "slurm", "device": "cuda", "time": 240.0, **cluster})
    checks = Checks(profile, slurm or Words())  # type: ignore[arg-type]
    return [(finding.found, finding.fix) for finding in checks.run() if finding.fix and finding.what != "preemption"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [("1:00:00", 60), ("30:00", 30), ("2-12:00:00", 3600), ("0:30", 0.5), ("infinite", None), ("n/a", None)],
)
def test_time_limits(limit: str, said: float | None) -> None:
    assert minutes(limit) == said


def test_partitions_of_nodes_that_differ() -> None:
    known = partitions(SINFO.replace("|(null)\n", "\n", 1))
    assert {name: (one.default, one.up, one.working) for name, one in known.items()} == {
        "gpu": (True, True, 8),
        "long": (False, True, 0),
        "debug": (False, False, 2),
    }
    a100, v100, *_ = known["gpu"].nodes
    assert (a100.gpus, v100.gpus) == ({"a100": 4}, {"v100": 8})
    assert (v100.gpus_of("v100"), v100.gpus_of("a100"), v100.gpus_of(None)) == (8, 0, 8)
    assert known["debug"].nodes[0].gpus == {"": 2}
    assert known["long"].minutes is None


def test_a_profile_that_fits_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, gpu_type="a100", gpus=4, nodes=6, cpus=16, memory=500.0, account="lab", qos="high") == []


@pytest.mark.parametrize(
    ("cluster", "what", "fix"),
    [
        ({"device": "auto"}, "cannot be seen from here", "cluster.device=cuda, or cpu"),
        ({"time": None}, "need a time limit", "cluster.time=MINUTES"),
        ({"time": 3000.0}, "3000 minutes, gpu allows 2880", "cluster.time=2880;"),
        ({"partition": "gpus"}, "no 'gpus', did you mean 'gpu'?", "cluster.partition=NAME, of debug, gpu, long"),
        ({"partition": "debug"}, "debug takes no jobs now", "cluster.partition=ANOTHER"),
        ({"partition": "long", "device": "cpu"}, "none of long works (down)", "cluster.partition=ANOTHER"),
        ({"gpus": 9}, "9 of a node, the largest has 8", "cluster.gpus=8"),
        ({"gpus": 8, "gpu_type": "a100"}, "a node of type a100, the largest has 4", "cluster.gpu_type, of a100, v100"),
        ({"gpu_type": "h100"}, "of type h100, the largest has 0", "cluster.gpu_type, of a100, v100"),
        ({"cpus": 40, "gpus": 2}, "80 cores of a node (cpus x gpus), the largest has 64", "cluster.cpus=32"),
        ({"memory": 600.0}, "600 GiB of a node, the largest has 502.9", "cluster.memory=477.8"),
        ({"gpu_type": "a100", "nodes": 7}, "a cell asks for 7; 6 work", "cluster.nodes=6"),
        ({"account": "sience"}, "none of yours, did you mean 'science'?", "cluster.account=NAME, of science, lab"),
        ({"qos": "urgent"}, "'urgent' is none of yours", "cluster.qos=NAME, of normal, high"),
    ],
)  # fmt: skip
def test_every_failed_check_names_the_key_that_fixes_it(
    monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any], what: str, fix: str
) -> None:
    ((said, remedy),) = found(monkeypatch, **cluster)
    assert what in said
    assert fix in remedy


def test_what_sbatch_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    words.answers["sbatch --test-only"] = "error: allocation failure: Invalid qos specification"
    ((said, remedy),) = found(monkeypatch, words)
    assert "this quality of service is refused (allocation failure: Invalid qos specification)" in said
    assert remedy == "change cluster.qos"
    words.answers["sbatch --test-only"] = "error: unrecognized option '--colour=red'"
    ((said, remedy),) = found(monkeypatch, words, sbatch={"colour": "red"})
    assert "it does not know this option (unrecognized option '--colour=red')" in said
    assert remedy == "change cluster.sbatch"


def test_without_accounting_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    words.answers["sacct -X"] = "error: Slurm accounting storage is disabled"
    ((said, remedy),) = found(monkeypatch, words)
    assert said.startswith("sacct: Slurm accounting storage is disabled. Jobs are known while they are in the queue")
    assert "administrators" in remedy


def test_a_controller_that_goes_away_ends_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    words.answers["sinfo -h"] = "error: Unable to contact slurm controller (connect failure)"
    ((said, _),) = found(monkeypatch, words)
    assert said == "sinfo: Unable to contact slurm controller (connect failure)"
    words.answers["scontrol ping"] = "error: failed"
    ((said, _),) = found(monkeypatch, words)
    assert said == "its controller does not answer (scontrol ping)"
