"""What a plan is told of a cell's memory, time and files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import Backbone, Cell, Dataset, Loss, Method
from harness.plugins import register
from harness.ssl.measure import step_cost
from harness.ssl.measure.step_cost import ImageCounts, LiveTensorBytes, peak_bytes
from harness.store.record import Record

CPU = torch.device("cpu")
IMAGES = ImageCounts(train=1293, bank=1293, validation=144, test=360)


def small(loss: str = "infonce", method: str = "simclr", **fields: Any) -> Cell:
    settings: dict[str, Any] = {
        "backbone": Backbone("convnet", 4),
        "dataset": Dataset("digits", 8),
        "loss": filled(Loss(loss), LOSSES[loss].parameters),
        "method": filled(Method(method), METHODS[method].parameters),
        "batch_size": 64,
    }
    return Cell(**{**settings, **fields})


def peak(cell: Cell, world_size: int = 1) -> int:
    return peak_bytes(cell, 1, IMAGES, world_size, CPU)


def test_what_lives_is_counted_once_and_forgotten_when_it_dies() -> None:
    with LiveTensorBytes(lambda size: "all") as live:
        first = torch.zeros(1000)
        second = first.view(10, 100)  # the same bytes
        third = torch.zeros(500)
        assert live.now["all"] == 6000
        del first, third
        assert live.now["all"] == 4000
        del second
    assert (live.now["all"], live.peak["all"]) == (0, 6000)


@pytest.mark.parametrize("loss", [name for name, entry in LOSSES.items() if not entry.file])
def test_every_loss_is_traced_without_values(loss: str) -> None:
    assert peak(small(loss)) > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bn_groups", [1, 4])
def test_every_method_is_traced_without_values(method: str, bn_groups: int) -> None:
    assert peak(small("eqco", method, bn_groups=bn_groups)) > 0


@pytest.mark.e2e
@pytest.mark.parametrize("loss", ["dcl", "spectral", "vicreg", "vicreg_ctr"])
def test_memory_grows_with_the_batch_and_not_with_its_square(loss: str) -> None:
    before, after = (peak(small(loss, batch_size=size)) for size in (512, 2048))
    assert after < 4.5 * before


@pytest.mark.e2e
def test_a_queue_takes_its_place() -> None:
    cell = small(method="moco", batch_size=16)
    short, long = (
        dataclasses.replace(cell, method=dataclasses.replace(cell.method, queue=size)) for size in (16, 2**16)
    )
    assert peak(long) - peak(short) > 4 * cell.head.dim * 2**16


@pytest.mark.e2e
def test_ranks_share_the_images() -> None:
    activations = small(batch_size=1024, backbone=Backbone("convnet", 64), dataset=Dataset("digits", 32))
    assert peak(activations, world_size=2) < 0.7 * peak(activations)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "fields", [{"batch_size": 1024}, {"batch_size": 64, "backbone": Backbone("resnet18", 16), "precision": "bf16"}]
)
def test_the_estimate_is_near_what_the_cell_takes(
    make_record: Callable[..., Record], fields: Mapping[str, Any]
) -> None:
    record = make_record(epochs=1, **fields)
    code = (
        "import re, sys; from pathlib import Path\n"
        "from harness.store.record import Record; from harness.ssl.attempt import run_cell\n"
        "run_cell(Record(Path(sys.argv[1])))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    taken = 1024 * int(_said(code, str(record.path)))
    base = int(_said("from harness.ssl.measure.step_cost import *; print(base_bytes(torch.device('cpu')))"))
    assert 0.85 < (base + peak(record.cell())) / taken < 1.45


def _said(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.e2e
def test_micro_batches_take_the_memory_of_one_and_of_all_embeddings() -> None:
    cell = small(batch_size=1024, bn_groups=16, backbone=Backbone("convnet", 64), dataset=Dataset("digits", 32))
    part, whole = dataclasses.replace(cell, batch_size=64, bn_groups=1), dataclasses.replace(cell, bn_groups=1)
    traced = peak_bytes(cell, 1, IMAGES, 1, CPU, micro_batch=64)
    assert peak(part) < traced < 1.25 * peak(part) < 0.5 * peak(whole)


def test_a_loss_that_looks_at_values_has_no_known_memory(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "def peeking(z1, z2, *, temperature=0.5):\n"
        '    """Looks."""\n'
        "    return (z1 - z2).square().mean() * (1 if float(z1.detach().sum()) > 0 else 2)\n"
    )
    register([file])
    cell = dataclasses.replace(small(), loss=Loss("peeking", 0.5, source=LOSSES["peeking"].source))
    kind = {
        "cell": dataclasses.asdict(cell),
        "channels": 1,
        "images": vars(IMAGES),
        "world_size": 1,
        "micro_batch": None,
    }
    assert step_cost.memory({**kind, "images": vars(IMAGES), "world_size": 1}, 0, CPU) == 0


@pytest.mark.e2e
def test_files_have_the_sizes_that_a_cell_leaves(make_record: Callable[..., Record]) -> None:
    record = make_record(epochs=1)
    subprocess.run([sys.executable, "-m", "harness.ssl", str(record.path)], check=True)
    found = step_cost.time_and_disk(record.cell(), 1, CPU)
    (attempt,) = record.attempts()
    for name, file in (("encoder_bytes", "encoder.safetensors"), ("checkpoint_bytes", "checkpoint.pt")):
        assert found[name] == pytest.approx((attempt.path / file).stat().st_size, rel=0.1)


def test_a_step_that_finds_no_memory_is_measured_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def lacking(cell: Cell, channels: int, device: torch.device, micro_batch: int | None) -> dict[str, float]:
        sizes.append(cell.batch_size)
        if cell.batch_size > 32:
            raise torch.OutOfMemoryError
        return {"sample": 1.0}

    monkeypatch.setattr(step_cost, "_time_and_disk", lacking)
    assert step_cost.time_and_disk(small(batch_size=128), 1, CPU) == {"sample": 1.0}
    assert sizes == [128, 64, 32]


@pytest.mark.e2e
def test_the_process_answers_in_json() -> None:
    kind = {"cell": dataclasses.asdict(small()), "channels": 1, "micro_batch": None, "files": []}
    memory = {**kind, "key": "b", "images": vars(IMAGES), "world_size": 2}
    request = {
        "plugins": [],
        "steps": [{**kind, "key": "a"}],
        "memory": [memory, {**memory, "key": "c", "world_size": 1}],
    }
    command = [sys.executable, "-m", "harness.ssl.measure.step_cost", "1", "cpu"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(key, costs is None) for key, costs in said] == [
        (key, begins) for key in ("b", "c", "a") for begins in (True, False)
    ], "what begins, so that who dies is known, and what it came to"
    found = {key: costs for key, costs in said if costs}
    assert set(found["a"]) == {"sample", "feature", "start", "encoder_bytes", "checkpoint_bytes"}
    assert 2 * found["c"]["bytes"] < found["b"]["bytes"] < 3.5 * found["c"]["bytes"], "two ranks and torchrun"
