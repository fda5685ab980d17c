"""What cells need of each disk is summed, compared with what is free, and asked about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cell import Dataset
from harness.cli.shared.disk_space import confirm_space, described
from harness.cli.shared.load_experiment import load
from harness.datasets.image_folder import cached_images
from harness.errors import UserError
from harness.files import cache_folder
from harness.sweep.launch import Declared
from harness.sweep.plan import disk_space
from harness.sweep.plan.plan import CostEstimate, PlanEstimate
from tests.support.small_files import image_folder

#: Of six cells, and of the ten images.
RESULTS, IMAGES = 6 * 20_000, 10 * 3 * 64 * 64
PROFILE = "scheduler: slurm\ndevice: cpu\npartition: main\ntime: 10\n"


@pytest.fixture
def on_images(tiny: Path, tmp_path: Path) -> list[str]:
    """Overrides for an image folder."""
    folder = f"dataset.root={image_folder(tmp_path / 'images')}"
    of = ["dataset=imagefolder", folder, "dataset.image_size=64", "dataset.validation=0.5", "evaluate.knn_k=3"]
    return [*of, "axes.batch_size=[2]"]


def estimated(declared: Declared) -> PlanEstimate:
    entries = declared.plan.entries
    a_cell = CostEstimate(1.0, False, disk=RESULTS // len(entries), memory=0, ranks=1)
    return PlanEstimate(entries, [], {entry.cell.cell_id: a_cell for entry in entries}, 0.0, 0)


def found(tiny: Path, words: list[str]) -> list[disk_space.DiskSpace]:
    declared = load(str(tiny), words, tiny.parent / "results")
    return declared.disk_space(declared.plan.entries, estimated(declared), tiny.parent / "results")


def declared_dataset(tiny: Path, words: list[str]) -> Dataset:
    return load(str(tiny), words, tiny.parent / "results").plan.entries[0].cell.dataset


def test_results_and_images_of_one_disk_must_both_fit_on_it(
    tiny: Path, on_images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, lacking in ((RESULTS + IMAGES, False), (RESULTS + IMAGES - 1, True)):
        monkeypatch.setattr(disk_space, "free_bytes", lambda folder, free=free: free)
        of_results, of_images = found(tiny, on_images)
        assert (of_results.needed, of_images.needed) == (RESULTS, IMAGES)
        assert of_images.folder == cache_folder() / "images"
        assert of_results.lacking == of_images.lacking == lacking
        assert ("NOT ENOUGH" in described(of_images)) == lacking


def test_each_of_two_disks_must_have_room_for_its_own(
    tiny: Path, on_images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "disk_of", lambda folder: int(folder.name == "images"))
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESULTS if folder.name == "results" else IMAGES - 1)
    of_results, of_images = found(tiny, on_images)
    assert (of_results.lacking, of_images.lacking) == (False, True)
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 2**11 if folder.name == "results" else 2**12)
    asked: list[str] = []
    monkeypatch.setattr("harness.cli.shared.disk_space.confirm", lambda question, yes, again: asked.append(question))
    confirm_space(found(tiny, on_images), yes=False, again="harness sweep")
    assert [re.findall(r"\d+ KiB", question) for question in asked] == [["117 KiB", "2 KiB"], ["120 KiB", "4 KiB"]]


def test_what_is_lacking_is_asked_about(tiny: Path, on_images: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    confirm_space(found(tiny, on_images), yes=False, again="harness sweep")
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 10)
    lacking = found(tiny, on_images)
    with pytest.raises(
        UserError, match=r"117 KiB into .*results/ and 120 KiB into .*images/, and 0 KiB are free there"
    ):
        confirm_space(lacking, yes=False, again="harness sweep")
    confirm_space(lacking, yes=True, again="harness sweep")


def test_the_cache_of_a_clusters_nodes_is_not_this_machines(
    tiny: Path, on_images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny.parent / "here.yaml").write_text(PROFILE)
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESULTS)
    monkeypatch.chdir(tiny.parent)
    of_results, of_images = found(tiny, [*on_images, "cluster=here.yaml"])
    assert not of_results.lacking
    assert not of_images.lacking
    assert described(of_images) == "120 KiB in the cache of each node (XDG_CACHE_HOME), once where they share it"
    here = cached_images(declared_dataset(tiny, on_images))
    here.parent.mkdir(parents=True)
    here.touch()
    assert [one.what for one in found(tiny, on_images)] == ["Disk"]
    assert [one.what for one in found(tiny, [*on_images, "cluster=here.yaml"])] == ["Disk", "Images"]


def test_images_are_said_where_nobody_knows_what_cells_cost(tiny: Path, on_images: list[str]) -> None:
    declared = load(str(tiny), on_images, tiny.parent / "results")
    assert [one.what for one in declared.disk_space(declared.plan.entries, None, tiny.parent)] == ["Images"]
