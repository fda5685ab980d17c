"""Published numbers: what stands there was read, and how an arm of ours differs from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cell import Cell, get, paths, short_name
from harness.errors import UserError
from harness.study.papers.published import FOLDER, STATUSES, Number, differences, load, number, papers

NUMBERS = [item for paper in papers().values() for item in paper.numbers.values()]

# Typed by hand from the sources, not copied from the files.
SPOT_CHECKS = {
    "dcl.simclr_dcl_in1k_256_200": (68.2, "read-paper"),
    "dcl.simclr_dcl_in1k_256_200_first": (66.9, "read-paper"),
    "dcl.simclr_in1k_256_200": (61.8, "derived"),
    "dcl.nnclr_dcl_in1k_512_400": (72.3, "read-paper"),
    "dcl.simclr_dcl_in1k_100": (64.6, "read-2nd"),
    "dcl.simclr_in1k_100": (57.5, "read-2nd"),
    "eqco.simo_in1k_256_200": (68.1, "read-code"),
    "eqco.eqco_in1k_200": (68.5, "read-2nd"),
    "eqco.moco_v2_in1k_k65536": (67.5, "read-2nd"),
    "eqco.moco_v2_in1k_k1024": (67.1, "read-2nd"),
    "eqco.moco_v2_in1k_k256": (67.0, "read-2nd"),
    "eqco.simclr_moco_recipe_in1k_256_200": (67.3, "read-code"),
    "eqco.simclr_in1k_256_200": (63.2, "read-code"),
    "eqco.moco_v2_in1k_256_200": (67.6, "read-code"),
    "duality.simclr_tuned_8192_d512": (68.61, "read-paper"),
    "duality.simclr_abs_8192": (68.71, "read-paper"),
    "duality.vicreg_8192_d8192": (68.13, "read-paper"),
    "duality.vicreg_8192_d256": (65.01, "read-paper"),
    "duality.vicreg_ddd_d256": (61.36, "read-paper"),
    "duality.vicreg_original_256": (55.9, "read-paper"),
    "duality.vicreg_1000": (73.3, "read-paper"),
    "duality.vicreg_8192_d1024": (68.06, "read-2nd"),
    "duality.vicreg_ctr_8192_d256": (67.72, "read-2nd"),
    "duality.simclr_orig_8192_d2048": (66.02, "read-2nd"),
    "duality.simclr_tuned_ddd_d8192": (68.68, "read-2nd"),
    "simclr.c10_r18_512_1000": (91.0, "read-code"),
    "simclr.c10_r50_1024_1000": (94.0, "read-code"),
    "simclr.in1k_256_200": (61.9, "read-2nd"),
    "moco_v2.in1k_256_200": (67.5, "read-code"),
    "moco_v2.in1k_256_800_checkpoint": (71.1, "read-code"),
    "vicreg.in1k_256d_100": (55.9, "read-2nd"),
    "barlow_twins.in1k_2048_1000_checkpoint": (73.5, "read-code"),
    "barlow_twins.in1k_2048_1000": (73.2, "read-2nd"),
    "sogclr.simclr_in1k_128_800": (64.5, "digitised"),
    "sogclr.sogclr_in1k_8192_800": (69.1, "digitised"),
    "sogclr.sogclr_in1k_256_800": (69.3, "read-code"),
    "sogclr.sogclr_in1k_256_800_torch": (69.0, "read-code"),
    "sogclr.sogclr_in100_256_400_torch": (80.0, "read-code"),
    "sogclr.simclr_c10_64_400": (90.66, "read-code"),
    "lightly.simclr_dcl_in1k_256_100": (65.1, "read-repro"),
    "lightly.simclr_dclw_in1k_256_100_knn": (48.5, "read-repro"),
    "lightly.moco_v2_in1k_256_100_finetune": (74.3, "read-repro"),
    "lightly.simclr_c10_512_800": (87.9, "read-repro"),
    "lightly.simclr_dcl_c10_128_200": (84.4, "read-repro"),
    "lightly.vicreg_imagenette_256_800": (84.5, "read-repro"),
    "raminnakhli.c10_infonce_b32": (78.3, "read-repro"),
    "raminnakhli.c10_dcl_b32": (84.6, "read-repro"),
    "raminnakhli.c100_dclw_b256": (57.3, "read-repro"),
    "solo_learn.moco_v2_plus_c10_1000": (92.94, "read-repro"),
    "solo_learn.vicreg_c100_1000": (68.54, "read-repro"),
    "solo_learn.barlow_twins_in100_400": (80.38, "read-repro"),
    "supcontrast.simclr_c100_1024_1000": (70.7, "read-repro"),
    "supcontrast.simclr_c100_512_1000_user": (70.5, "read-repro"),
    "dkobak.c10_512_100_knn": (83.2, "read-repro"),
    "dkobak.c10_512_1000_linear": (91.7, "read-repro"),
}

DCL = "dcl.simclr_dcl_in1k_256_200"
ITS_SETTING: dict[str, Any] = {
    "dataset": "imagenet1k",
    "backbone": "resnet50",
    "width": 64,
    "method": "simclr",
    "loss": "dcl",
    "batch_size": 256,
    "epochs": 200,
}

SOUND = """
title: A paper
cite: Somebody 2020
shared: {metric: test_knn, status: read-paper, read: its table 1, setting: {dataset: cifar10}}
numbers:
  alone: {value: 80}
tables:
  - setting: {loss: dcl}
    columns: {b32: {setting: {batch_size: 32}}, b64: {setting: {batch_size: 64}, status: digitised}}
    rows:
      dcl: {values: [81.5, 82]}
      infonce: {setting: {loss: infonce}, note: a baseline, values: [null, 79]}
"""


def arm(cell: Cell) -> dict[str, Any]:
    return {short_name(path): get(cell, path) for path in paths()}


@pytest.mark.parametrize(("reference", "expected"), SPOT_CHECKS.items())
def test_a_number_is_what_its_source_says(reference: str, expected: tuple[float, str]) -> None:
    found = number(reference)
    assert (found.value, found.status) == expected
    assert f"{found.paper}.{found.id}" == reference


def test_every_file_is_loaded_and_says_what_it_is() -> None:
    assert list(papers()) == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert {"dcl", "eqco", "flatnce", "duality"} <= set(papers())
    for name, paper in papers().items():
        assert paper.name == name
        assert paper.title
        assert paper.cite
        assert paper.numbers or paper.unread, "a file that says nothing"


def test_a_number_has_a_value_only_where_somebody_read_it() -> None:
    assert {item.status for item in NUMBERS} == set(STATUSES)
    for item in NUMBERS:
        assert (item.value is not None) == item.published == (item.status != "unverified"), item
        assert item.read, item
        assert item.setting, item


def test_a_reproduction_is_not_the_papers_number() -> None:
    assert number("dcl.simclr_dcl_in1k_256_200").origin == "paper"
    assert number("sogclr.simclr_in1k_128_800").origin == "paper"
    assert number("lightly.simclr_dcl_c10_512_200").origin == "reproduction"
    assert {item.paper for item in NUMBERS if item.origin == "reproduction"} == {
        "lightly",
        "raminnakhli",
        "solo_learn",
        "supcontrast",
        "dkobak",
    }


def test_flatnces_results_could_not_be_read() -> None:
    assert not papers()["flatnce"].numbers
    assert "every table of results" in papers()["flatnce"].unread[0]


def test_what_is_named_unread_has_no_number() -> None:
    assert not any(item.setting.get("batch_size") == 32 for item in papers()["dcl"].numbers.values())
    assert number("eqco.simo_in1k_16").value is None
    assert not any(item.setting.get("hidden") == 2048 for item in papers()["duality"].numbers.values())


def test_an_unknown_reference_names_a_near_one() -> None:
    with pytest.raises(UserError, match=r"dcl has no number 'simclr_dcl_in1k_256'.*, did you mean 'simclr"):
        number("dcl.simclr_dcl_in1k_256")
    with pytest.raises(UserError, match="unknown paper 'dclw', did you mean 'dcl'"):
        number("dclw.anything")
    with pytest.raises(UserError, match="none: no number of it could be read"):
        number("flatnce.cifar10")
    with pytest.raises(UserError, match="dcl has no number ''"):
        number("dcl")


def test_an_arm_in_the_published_setting_differs_in_nothing() -> None:
    assert differences(number(DCL), {**ITS_SETTING, "temperature": 0.1, "seed": 3}) == []


def test_differences_are_said_with_the_names_that_people_know() -> None:
    ours = {**ITS_SETTING, "dataset": "cifar10", "backbone": "resnet18", "width": 16, "epochs": 10, "batch_size": 32}
    assert differences(number(DCL), ours) == [
        "dataset CIFAR-10 instead of ImageNet-1K",
        "backbone ResNet-18 instead of ResNet-50",
        "width 16 instead of 64",
        "batch size 32 instead of 256",
        "epochs 10 instead of 200",
    ]
    assert differences(number(DCL), {**ITS_SETTING, "loss": "my_loss"}) == ["loss my_loss instead of DCL"]


def test_what_no_cell_can_do_makes_a_number_not_comparable() -> None:
    """They were called comparable with arms of other passes, optimisers and protocols."""
    online = number("solo_learn.simclr_c10_1000")
    assert differences(online, {**online.setting}) == [
        "the published accuracy is that of a classifier trained with the encoder"
    ]
    theirs = number("raminnakhli.c10_dcl_b32")
    ours = {**theirs.setting, "bn_passes": 1, "schedule": "cosine"}
    assert differences(theirs, ours)[:2] == [
        "bn passes 1 instead of 2",
        "schedule cosine instead of constant",
    ]


@pytest.mark.parametrize(
    "item",
    [item for item in NUMBERS if re.search("best|online", item.protocol)],
    ids=lambda item: f"{item.paper}.{item.id}",
)
def test_the_best_of_epochs_and_an_online_probe_are_comparable_with_nothing(item: Number) -> None:
    assert differences(item, item.setting)


def test_what_either_side_does_not_tell_is_a_difference() -> None:
    ours = {key: value for key, value in ITS_SETTING.items() if key != "width"}
    assert differences(number(DCL), ours) == ["width not known, 64 published"]
    unstated = differences(number("dcl.simclr_in1k_100"), {**ITS_SETTING, "loss": "infonce", "epochs": 100})
    assert unstated == ["batch size of the published number not known"]


def test_an_image_folder_may_be_imagenet() -> None:
    said = differences(number(DCL), {**ITS_SETTING, "dataset": "imagefolder"})
    assert said == ["dataset an image folder that may or may not be ImageNet-1K"]


def test_a_parameter_that_a_loss_lacks_is_none() -> None:
    published = number("raminnakhli.c10_dclw_b32")
    ours = {**published.setting, "loss": "vicreg", "temperature": None, "sigma": None, "detach_weights": True}
    assert differences(published, ours) == [
        "temperature none instead of 0.1",
        "loss VICReg instead of DCLW",
        "sigma none instead of 0.5",
        "detach weights true instead of false",
        *published.also,
    ]


def test_a_projector_as_wide_as_its_embeddings_may_be_written_either_way() -> None:
    by_name = number("duality.vicreg_ddd_d512")
    assert differences(by_name, {**by_name.setting, "hidden": 512}) == list(by_name.also)
    by_number = number("duality.vicreg_ddd_d256")
    assert differences(by_number, {**by_number.setting, "hidden": None}) == list(by_number.also)
    assert differences(by_number, {**by_number.setting, "hidden": None, "dim": 512}) == [
        "hidden 512 instead of 256",
        "dim 512 instead of 256",
        *by_number.also,
    ]


def test_every_published_setting_can_be_compared_with_a_cell() -> None:
    evaluated = {**arm(Cell()), "knn_k": 20, "knn_temperature": 0.07}
    for item in NUMBERS:
        said = differences(item, evaluated)
        assert said, item
        assert not any("not known," in phrase for phrase in said), (item, said)


def test_a_table_is_many_numbers(tmp_path: Path) -> None:
    found = load(written(tmp_path, SOUND)).numbers
    assert list(found) == ["alone", "dcl_b32", "dcl_b64", "infonce_b64"]
    common = {"paper": "broken", "read": "its table 1", "metric": "test_knn"}
    assert found["infonce_b64"] == Number(
        id="infonce_b64",
        status="digitised",
        value=79.0,
        setting={"dataset": "cifar10", "loss": "infonce", "batch_size": 64},
        note="a baseline",
        **common,
    )
    assert found["dcl_b32"].status == "read-paper"
    assert found["alone"].setting == {"dataset": "cifar10"}


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("title: A paper", "titel: A paper", "file: unknown 'titel', did you mean 'title'?"),
        ("title: A paper", "title: 3", "title: must be a text"),
        ("cite: Somebody 2020", "", "cite: must be a text"),
        ("{value: 80}", "{value: 80, vlaue: 3}", "numbers.alone: unknown 'vlaue', did you mean 'value'?"),
        ("{value: 80}", "{}", "numbers.alone.value: None is no accuracy in per cent"),
        ("{value: 80}", "80", "numbers.alone: must be a mapping"),
        ("{value: 80}", "{value: '80'}", "numbers.alone.value: '80' is no accuracy"),
        ("{value: 80}", "{value: true}", "numbers.alone.value: True is no accuracy"),
        ("{value: 80}", "{value: 100}", "numbers.alone.value: 100 is no accuracy"),
        ("{value: 80}", "{value: 0}", "numbers.alone.value: 0 is no accuracy"),
        ("{value: 80}", "{value: .nan}", "numbers.alone.value: nan is no accuracy"),
        ("{value: 80}", "{value: 80, status: read}", "numbers.alone.status: unknown 'read', did you mean 'read-2nd'"),
        ("{value: 80}", "{value: 80, status: unverified}", "numbers.alone.value: an unverified number has none"),
        ("{value: 80}", "{value: 80, metric: knn}", "numbers.alone.metric: unknown 'knn'"),
        ("{value: 80}", "{value: 80, note: ''}", "numbers.alone.note: must be a text"),
        ("{value: 80}", "{value: 80, setting: {batch: 3}}", "numbers.alone.setting: unknown 'batch'"),
        ("{value: 80}", "{value: 80, setting: [3]}", "numbers.alone.setting: must be a mapping"),
        ("{value: 80}", "{value: 80, setting: {epochs: '3'}}", "numbers.alone.setting.epochs: '3' is no int"),
        ("{value: 80}", "{value: 80, setting: {epochs: true}}", "numbers.alone.setting.epochs: True is no int"),
        ("{value: 80}", "{value: 80, setting: {loss: [dcl]}}", "numbers.alone.setting.loss: ['dcl'] is no str"),
        ("{value: 80}", "{value: 80, setting: {loss: dlc}}", "numbers.alone.setting.loss: unknown 'dlc', did you mean"),
        ("{value: 80}", "{value: 80, setting: {dataset: in1k}}", "numbers.alone.setting.dataset: unknown 'in1k'"),
        ("read: its table 1, ", "", "numbers.alone.read: must be a text"),
        ("alone:", "32:", "numbers.32: an id has small letters"),
        ("alone:", "dcl_b32:", "tables[0].rows.dcl: the id 'dcl_b32' stands twice"),
        ("alone:", "alone: {value: 70}\n  alone:", "alone: stands twice in the mapping at line"),
        ("[81.5, 82]", "[81.5]", "tables[0].rows.dcl.values: 1 of them for 2 columns"),
        ("[81.5, 82]", "[81.5, x]", "tables[0].rows.dcl.value: 'x' is no accuracy"),
        ("{values: [81.5, 82]}", "{}", "tables[0].rows.dcl.values: must be a list"),
        ("columns:", "colums:", "tables[0].columns: must be a mapping"),
        ("tables:", "unread: [1]\ntables:", "unread[0]: must be a text"),
        ("tables:", "unread: everything\ntables:", "unread: must be a list"),
        ("cite:", "- cite:", "expected"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in SOUND
    with pytest.raises(ValueError, match=r"broken\.yaml: ") as refused:
        load(written(tmp_path, SOUND.replace(right, wrong, 1)))
    assert said in str(refused.value)


def test_an_unverified_number_needs_no_value(tmp_path: Path) -> None:
    found = load(written(tmp_path, SOUND.replace("{value: 80}", "{status: unverified}"))).numbers["alone"]
    assert found.value is None
    assert not found.published


def test_files_are_small_letters_and_name_no_number_twice() -> None:
    for path in FOLDER.glob("*.y*ml"):
        assert path.suffix == ".yaml"
        assert path.stem == path.stem.lower()
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
    references = [f"{item.paper}.{item.id}" for item in NUMBERS]
    assert len(references) == len(set(references))


def test_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "mlflow", "pandas", "numpy")
    code = "import sys; from harness.study.papers.published import papers; papers(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(heavy) & set(done.stdout.split())


def written(folder: Path, text: str) -> Path:
    path = folder / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    return path
