"""``harness export-encoder``: what a user gets is what was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.cell import Backbone, Cell, Dataset
from harness.datasets import find
from harness.ssl import encoder_file, models
from harness.ssl.attempt import run_cell
from harness.ssl.evaluate.features import embed, frozen
from harness.store.record import Record
from harness.study.report.encoder_card import example

MakeRecord = Callable[..., Record]


def harness(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ})


def run_example(folder: Path, code: str) -> str:
    """Standard output of the example as a module, and of ``code`` after it."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json\nfrom load_encoder import *\n{code}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """An image folder of two colours."""
    for split, count in (("train", 40), ("test", 10)):
        for label, colour in (("blue", 2), ("red", 0)):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for number in range(count):
                pixel = [number, number, number]
                pixel[colour] = 200
                Image.new("RGB", (32, 32), tuple(pixel)).save(tmp_path / "photos" / split / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.e2e
def test_the_example_has_the_features_that_the_harness_has(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record("results/runs", epochs=1)
    run_cell(record)
    done = harness("export-encoder", record.cell_id[:6], "--to", "out/mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/mine"
    files = {"encoder.safetensors", "cell.json", "README.md", "load_encoder.py"}
    assert {path.name for path in folder.iterdir()} == files

    shown, printed = run_example(folder, "print(json.dumps([images.tolist(), features.tolist()]))").splitlines()
    assert shown == "features: (4, 16)"
    images, features = (torch.tensor(rows) for rows in json.loads(printed))
    path = record.encoder()
    assert path is not None
    kept = encoder_file.load(path)
    with frozen(kept.encoder):
        expected = embed(kept.encoder, images, kept.mean, kept.std, "fp32")
    torch.testing.assert_close(features, expected)

    outcome = record.outcome()
    assert outcome is not None
    words = (folder / "README.md").read_text()
    assert f"| this encoder | {outcome.metrics['test_knn']:.2f} |" in words
    assert "InfoNCE, temperature 0.1" in words
    assert f"{float(kept.mean):.6g}" in words


@pytest.mark.e2e
def test_a_published_resnet_goes_into_torchvisions_model(
    make_record: MakeRecord, photographs: Path, tmp_path: Path
) -> None:
    dataset = Dataset("imagefolder", 32, 0.1, find("imagefolder", str(photographs)).fingerprint)
    record = make_record(
        "results/runs", dataset=dataset, backbone=Backbone("resnet18", 64, "imagenet"), batch_size=32, epochs=1
    )
    submission = record.submission()
    assert submission
    record.submit(replace(submission, run=replace(submission.run, root=str(photographs))))
    run_cell(record)
    harness("export-encoder", record.cell_id, cwd=tmp_path)
    folder = tmp_path / f"encoder-{record.cell_id}"
    assert "conv1" not in (folder / "load_encoder.py").read_text(), "torchvision's own stem"
    printed = run_example(
        folder, "print(type(plain).__module__, (plain((images - mean) / std) - features).abs().max())"
    )
    assert "features: (4, 512)" in printed
    assert "torchvision.models.resnet" in printed


@pytest.mark.e2e
def test_the_stem_for_small_images_is_put_into_torchvisions_model(tmp_path: Path) -> None:
    cell = Cell(dataset=Dataset("cifar10", 32), backbone=Backbone("resnet18", 64, "cifar"))
    kept = encoder_file.SavedEncoder(
        models.encoder(cell.backbone, 3), cell.backbone, torch.full((3,), 0.5), torch.ones(3)
    )
    encoder_file.save(kept, tmp_path / "encoder.safetensors")
    (tmp_path / "load_encoder.py").write_text(example(cell, channels=3))
    assert "(4, 512)" in run_example(tmp_path, "assert plain.conv1.kernel_size == (3, 3)")


@pytest.mark.e2e
def test_nothing_is_overwritten_and_what_is_not_there_is_said(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record("results/runs", epochs=1)
    unfinished = harness("export-encoder", record.cell_id, cwd=tmp_path)
    assert unfinished.returncode == 2
    assert "the cell has not finished" in unfinished.stderr
    run_cell(record)
    (tmp_path / "mine").mkdir()
    refused = harness("export-encoder", record.cell_id, "--to", "mine", cwd=tmp_path)
    assert refused.returncode == 2
    assert "nothing is overwritten" in refused.stderr
    assert not any((tmp_path / "mine").iterdir())
    few = harness("export-encoder", record.cell_id[:5], cwd=tmp_path)
    assert "6 to 12 hex digits" in few.stderr
