"""Images on a node's own disk: copied once, whoever asks at once, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ssl.data.node_copy import staged

COPY = "import sys; from harness.ssl.data.node_copy import staged; print(staged(*sys.argv[1:]))"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "shared" / "train" / "cat"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(bytes(1000))
    return tmp_path / "shared"


@pytest.mark.e2e
def test_ranks_that_ask_at_once_share_one_whole_copy(images: Path, tmp_path: Path) -> None:
    stage = str(tmp_path / "node")
    command = [sys.executable, "-c", COPY, str(images), "f" * 40, stage]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    places = {rank.communicate()[0].strip() for rank in ranks}
    (place,) = places
    assert len(list(Path(place).rglob("*.jpg"))) == 20
    assert sorted(os.listdir(stage)) == [Path(place).name, f"{Path(place).name}.lock"]


def test_other_content_is_another_copy(images: Path, tmp_path: Path) -> None:
    assert staged(str(images), "a" * 40, str(tmp_path)) != staged(str(images), "b" * 40, str(tmp_path))


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        staged(str(tmp_path / "absent"), "a" * 40, str(tmp_path / "node"))
    assert [name for name in os.listdir(tmp_path / "node") if not name.endswith(".lock")] == []


def test_variables_of_the_job_are_expanded(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_SCRATCH", str(tmp_path / "scratch"))
    assert staged(str(images), "a" * 40, "$JOB_SCRATCH").startswith(str(tmp_path / "scratch"))


def test_what_is_no_data_is_not_copied_and_links_that_lead_back_are_not_followed(images: Path, tmp_path: Path) -> None:
    cats = images / "train" / "cat"
    (cats / ".#0.jpg").symlink_to("nobody@host.1234")  # a lock of Emacs
    (cats / "notes").symlink_to("nowhere")
    (cats / "all").symlink_to(images)
    (cats / "linked.jpg").symlink_to(cats / "0.jpg")
    os.mkfifo(cats / ".pipe")
    copy = Path(staged(str(images), "a" * 40, str(tmp_path / "node")))
    names = {path.name for path in (copy / "train" / "cat").iterdir()}
    assert names == {*(f"{number}.jpg" for number in range(20)), "linked.jpg"}
    assert len((copy / "train" / "cat" / "linked.jpg").read_bytes()) == 1000
