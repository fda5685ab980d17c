"""What ``harness plan`` shows before anything runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cell import Cell
from harness.cli.main import app
from harness.cli.shared import text
from harness.cli.shared.load_experiment import load
from harness.datasets import DatasetFiles
from harness.environment import gpus
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.files import cache_folder
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Record
from harness.sweep import launch
from harness.sweep.expand.resources import Resources
from harness.sweep.plan.cost import Costs, StepCost, footprint, shape
from tests.support.small_files import image_folder

GIB = 2**30


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second an image and a GiB a cell, 4 GiB at batch 256, on a machine of 2 GiB."""

    def measured(
        cells: list[tuple[Cell, Resources]], files: DatasetFiles, threads: int, device: str, plugins: list[str]
    ) -> Costs:
        a_step = StepCost(sample=1.0, feature=0.0, start=0.0, encoder_bytes=10**6, checkpoint_bytes=10**6)
        needs = {footprint(cell, given.world_size): GIB * (4 if cell.batch_size == 256 else 1) for cell, given in cells}
        return Costs(device, {shape(cell, device): a_step for cell, _ in cells}, needs)

    monkeypatch.setattr(launch, "measure", measured)
    monkeypatch.setattr(launch, "memory_bytes", lambda device: 2 * GIB)
    monkeypatch.setattr(launch, "hardware", lambda device: "a processor")


def planned(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def arguments(tiny: Path) -> list[str]:
    return [str(tiny), "axes.batch_size=[64]", "--results", str(tiny.parent / "results")]


def cells(tiny: Path) -> list[Cell]:
    plan = load(str(tiny), ["axes.batch_size=[64]"], tiny.parent / "results").plan
    return [entry.cell for entry in plan.entries]


def finish(tiny: Path, cell: Cell, seconds: float) -> None:
    record = Record.prepare(tiny.parent / "results" / "runs", cell)
    outcome = Outcome("finished", evaluation=Evaluation(knn_k=20, knn_temperature=0.07, penalty=1e-4))
    threads = load(str(tiny), [], tiny.parent).slots.threads
    environment = ComputeEnvironment(hardware="a processor", threads=threads)
    record.begin(Provenance(environment=environment)).end(replace(outcome, seconds=seconds))


def test_it_says_what_would_run_what_that_costs_and_where_the_numbers_are_from(tiny: Path) -> None:
    finish(tiny, cells(tiny)[0], seconds=360)
    said = unwrapped(planned(*arguments(tiny)))
    assert "6 cells: 5 missing, 1 finished" in said
    assert "2 cells by finished seeds of their arms, 3 cells by a measured step" in said
    assert "free" in said
    assert said.endswith(f"harness sweep {tiny} 'axes.batch_size=[64]' --results {tiny.parent / 'results'}")


def test_it_fits_into_eighty_columns(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = planned(*arguments(tiny)).splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.startswith("Next")) <= 80


def test_a_cell_that_would_not_fit_is_refused_by_name(tiny: Path) -> None:
    said = planned(str(tiny), "--results", str(tiny.parent / "results"))
    assert "To run   6 cells" in said
    assert "loss=infonce batch_size=256 (3 cells) needs about 4.0 GiB of memory, this machine has 2.0 GiB" in " ".join(
        said.split()
    )
    assert "smaller batch_size" in unwrapped(said)


def test_it_says_which_cells_are_not_tried_again(tiny: Path) -> None:
    runs = tiny.parent / "results" / "runs"
    Record.prepare(runs, cells(tiny)[0]).begin().fail("x", "diverged")
    said = planned(*arguments(tiny))
    assert "1 cell failed (diverged)" in unwrapped(said)
    assert "harness retry tiny.demo" in unwrapped(said)
    assert "To run   5 cells" in said


@pytest.mark.e2e
def test_stale_cells_are_said_and_how_to_train_them(tiny: Path) -> None:
    for cell in cells(tiny):
        finish(tiny, replace(cell, versions={**cell.versions, "loss": 0}), seconds=360)
    said = unwrapped(planned(*arguments(tiny)))
    assert "6 cells: 6 stale" in said
    assert "6 cells stale: finished with an earlier version of a component; --rerun-stale trains anew" in said
    assert said.endswith("Nothing is missing.")
    said = unwrapped(planned(*arguments(tiny), "--rerun-stale"))
    assert "To run 6 cells" in said
    assert "trains anew" not in said


def test_json_has_the_same_numbers_under_stable_keys(tiny: Path) -> None:
    said = json.loads(planned(str(tiny), "--results", str(tiny.parent / "results"), "--json"))
    assert said["states"] == {"missing": 12}
    assert [len(said[key]) for key in ("to_run", "refused", "not_retried")] == [6, 6, 0]
    assert said["by_steps"] == 6
    assert said["device_hours"] == pytest.approx(6 * 1280 / 3600)
    assert said["memory_limit"] == 2 * GIB
    assert set(said["to_run"][0]) == {
        *("cell_id", "axes", "state", "cause"),
        *("seconds", "finished", "disk", "memory", "ranks"),
    }
    assert {"exclusions", "coinciding", "wall_hours", "room", "slots", "next"} <= set(said)


def test_where_nothing_can_be_measured_the_rest_is_shown(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise UserError("torch is missing, so no step can be measured", next_command="pip install -e .")

    monkeypatch.setattr(launch, "measure", refuse)
    said = planned(*arguments(tiny))
    assert "6 cells: 6 missing" in said
    assert "unknown: torch is missing" in said
    assert json.loads(planned(*arguments(tiny), "--json"))["device_hours"] is None


def test_many_arms_are_not_listed_one_by_one(tiny: Path) -> None:
    temperatures = ",".join(f"0.{number}" for number in range(10, 40))
    said = planned(*arguments(tiny), f"axes.temperature=[{temperatures}]")
    assert "and 40 more arms" in said
    assert len(said.splitlines()) < 45


def test_a_disk_that_is_too_full_is_said(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sweep.plan.disk_space.free_bytes", lambda folder: 1000)
    assert "NOT ENOUGH" in planned(*arguments(tiny))


def test_images_that_are_kept_in_the_cache_take_room_too(tiny: Path, tmp_path: Path) -> None:
    folder = [f"dataset.root={image_folder(tmp_path / 'images')}", "dataset.image_size=64", "dataset.validation=0.5"]
    first, _, *where = arguments(tiny)
    words = [first, "dataset=imagefolder", *folder, "evaluate.knn_k=3", "axes.batch_size=[2]", *where]
    said = planned(*words)
    assert "Images   120 KiB in" in said
    assert f"{cache_folder()}/images/" in re.sub(r"\s", "", said)
    assert "Images" not in planned(*arguments(tiny)), "the digits are read from where they are"
    of_results, of_images = json.loads(planned(*words, "--json"))["room"]
    assert (of_results["what"], of_results["folder"]) == ("Disk", str(tiny.parent / "results"))
    assert (of_images["what"], of_images["needed"], of_images["lacking"]) == ("Images", 10 * 3 * 64 * 64, False)


@pytest.mark.parametrize(
    ("number", "said"),
    [(480 * 2**10, "480 KiB"), (25 * 2**20, "25 MiB"), (3 * GIB + GIB // 10, "3.1 GiB"), (2048 * GIB, "2,048.0 GiB")],
)
def test_sizes_for_people(number: int, said: str) -> None:
    assert text.size(number) == said


def test_the_processor_has_the_name_that_records_have() -> None:
    import torch

    from harness.ssl.compute_environment import hardware

    assert gpus.hardware("cpu") == hardware(torch.device("cpu"))
