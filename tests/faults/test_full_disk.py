"""A full disk: a file system of a few hundred kilobytes, filled for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from harness.files import read_json, write_json
from harness.ssl import checkpoint
from harness.ssl.worker import attempt
from harness.store.record import Attempt, Record
from harness.store.submission import Submission

#: As the superuser or in a user namespace of its own; where neither is allowed a small disk cannot be made.
MOUNT = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run([*MOUNT, str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> None:
    (disk / "ballast").write_bytes(b"x" * (shutil.disk_usage(disk).free - leave))


@pytest.mark.tried("full disks", "a JSON file is replaced")
def test_what_cannot_be_written_names_its_path_and_leaves_nothing(small_disk: Path) -> None:
    write_json(small_disk / "kept.json", {"a": 1})
    with pytest.raises(OSError, match=r"No space left.*kept\.json"):
        write_json(small_disk / "kept.json", {"a": "x" * 400_000})
    assert os.listdir(small_disk) == ["kept.json"]
    assert read_json(small_disk / "kept.json") == {"a": 1}


@pytest.mark.tried("full disks", "a checkpoint is written")
def test_a_checkpoint_that_does_not_fit_says_so_and_the_last_one_stands(small_disk: Path) -> None:
    unfinished = Attempt(Record(small_disk), 1)
    unfinished.path.mkdir(parents=True)
    checkpoint.save(unfinished, {"step": 1})
    with pytest.raises(OSError, match="0 MiB are free on the disk of"):
        checkpoint.save(unfinished, {"weights": torch.zeros(200_000)})
    assert torch.load(unfinished.checkpoint)["step"] == 1
    assert os.listdir(unfinished.path) == [unfinished.checkpoint.name]


@pytest.mark.tried("full disks", "a cell trains")
def test_a_cell_on_a_full_disk_fails_by_that_name(make_record: Callable[..., Record], small_disk: Path) -> None:
    elsewhere = make_record(epochs=1)
    record = Record.prepare(small_disk / "runs", elsewhere.cell())
    record.submit(elsewhere.submission() or Submission())
    fill(small_disk, leave=40_000)
    code, said = attempt(record, None)
    assert code == 1
    assert "the checkpoint cannot be written, 0 MiB are free on the disk of" in said


@pytest.mark.tried("full disks", "a sweep begins, and goes on all the same")
def test_a_sweep_on_a_full_disk_ends_with_a_line_that_names_it(tiny: Path, small_disk: Path) -> None:
    fill(small_disk, leave=60_000)
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=1", "--tracking-uri", "http://127.0.0.1:9"]
    command = [sys.executable, "-m", "harness.cli.main", "sweep", str(tiny), *words, "--results", str(small_disk)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert asked.returncode == 2
    assert re.search(r"The cells write about \d+ KiB into \S+/, and \d+ KiB are free there", asked.stderr)
    ended = subprocess.run([*command, "--yes"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "0 MiB are free on the disk of" in ended.stdout or "No space left" in ended.stderr


def test_a_results_folder_that_cannot_be_written_is_named_with_a_way_out(tiny: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = ["sweep", str(tiny), "axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=1", "--results", str(small_disk)]
    command = [sys.executable, "-m", "harness.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert str(small_disk) in done.stderr
    assert "--results OTHER_FOLDER" in done.stderr
    assert "Traceback" not in done.stderr
