"""A probe's ranks as a scheduler starts them: real processes with its variables."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.environment.revision import source_hash

pytestmark = pytest.mark.ranks


def ranks(folder: Path, size: int, **more: str) -> list[list[dict[str, Any]]]:
    """What each rank says, line by line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_NTASKS": str(size), "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "localhost", "MASTER_PORT": str(port), **more}  # fmt: skip
    command = [sys.executable, "-m", "harness.ssl.measure.node_check", str(folder), "cpu"]
    started = [
        subprocess.Popen(
            command, env={**os.environ, **told, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * size
    return [[json.loads(line) for line in lines.splitlines()] for lines in said]


def test_two_ranks_see_the_folder_and_each_other(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token")
    for rank, (alone, together) in enumerate(ranks(tmp_path, 2)):
        assert (alone["rank"], alone["token"], alone["sources"]) == (rank, "a token", source_hash())
        assert (together["rank"], together["ranks"], together["network"]) == (rank, 2, "")
        assert together["speed"] > 0
        assert (tmp_path / f"rank-{rank}").read_text() == "a token"


def test_one_rank_has_nobody_to_reach(tmp_path: Path) -> None:
    ((alone, together),) = ranks(tmp_path / "nowhere", 1)
    assert (alone["token"], alone["files"]) == ("", "FileNotFoundError: No such file or directory")
    assert (together["ranks"], together["network"]) == (1, "")


def test_a_network_that_is_not_there_is_said_and_no_failure(tmp_path: Path) -> None:
    for _, together in ranks(tmp_path, 2, GLOO_SOCKET_IFNAME="nowhere0"):
        assert "nowhere0" in together["network"]


@pytest.fixture(autouse=True)
def _no_variables_of_a_job_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
