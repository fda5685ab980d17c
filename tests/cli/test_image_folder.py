"""What ``plan`` and ``sweep`` say of a folder of images, as people have them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command_line import harness

EXPERIMENT = """\
defaults: [schema, {dataset: imagefolder}, {backbone: convnet}, {method: simclr}, {optimizer: sgd},
           {evaluate: solo_learn}, {cluster: local}, _self_]
title: Tiny
question: Does it run?
scale: demo
backbone: {width: 4}
dataset: {image_size: 16, validation: 0.25}
evaluate: {knn_k: 3}
axes: {loss: [infonce], batch_size: [4], epochs: [1], seed: [0]}
scales: {demo: {}}
"""
NOTES = [
    "note: val/ is read instead of test/: "
    "test/ has no class folder with images (images outside of the class folders: 2)",
    "note: 3 left out, hidden or written by the system: "
    "train/.ipynb_checkpoints, train/cat/._000.png, train/cat/.ipynb_checkpoints",
    "note: 2 left out, of other endings: .txt 2, train/dog/0.txt, train/dog/1.txt",
    "note: 16 grey images of 16 bits, scaled to 8 (divided by 257): the first is train/cat/000.png",
]


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """The folder of an experiment and of images, with what real folders have beside their images."""
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for split, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("cat", "dog")):
            (data / split / name).mkdir(parents=True)
            for number in range(count):
                values = rng.normal(80 + 90 * label, 20, (32, 32)).clip(0, 255).astype(np.uint8)
                pixels = values if number % 2 else values.astype(np.uint16) * 257
                Image.fromarray(pixels).save(data / split / name / f"{number:03}.png")
    (data / "test").mkdir()
    for number in range(2):
        Image.fromarray(values).save(data / "test" / f"{number}.png")
        (data / "train/dog" / f"{number}.txt").write_text("a dog")
    for folder in (data / "train", data / "train/cat"):
        (folder / ".ipynb_checkpoints").mkdir()
        Image.fromarray(values).save(folder / ".ipynb_checkpoints" / "000-checkpoint.png")
    (data / "train/cat/._000.png").write_bytes(bytes([0, 5, 0x16, 7, 0, 2, 0, 0]) + bytes(90))
    (tmp_path / "folder.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(verb: str, field: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return harness(verb, "folder.yaml", "dataset.root=data", "cluster.slots=1", *words, cwd=field)


@pytest.mark.e2e
@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_sweep_says_once_what_it_leaves_out_and_trains_on_the_rest(field: Path, stream: str) -> None:
    done = run("sweep", field, f"dataset.stream={stream}")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("note: ")] == NOTES
    assert "Nothing is missing." in run("plan", field, f"dataset.stream={stream}").stdout


@pytest.mark.e2e
def test_a_plan_says_it_too_and_its_json_lists_it(field: Path) -> None:
    done = run("plan", field)
    assert [line for line in done.stdout.splitlines() if line.startswith("note: ")] == NOTES
    listed = json.loads(run("plan", field, "--json").stdout)["dataset_notes"]
    assert [f"note: {note}" for note in listed] == NOTES


@pytest.mark.e2e
def test_a_damaged_image_is_named_where_the_cell_failed(field: Path) -> None:
    path = field / "data/train/cat/003.png"
    path.write_bytes(path.read_bytes()[:100])
    done = run("sweep", field)
    assert done.returncode == 1
    assert "train/cat/003.png: cannot read the image: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
