"""The remedy for a file that lies in the place of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.shared.unwritable import remedy
from tests.support.results import Results, harness


def test_a_file_in_the_place_of_a_folder_is_to_be_moved_away(tmp_path: Path) -> None:
    place = tmp_path / "the sweeps"
    place.write_text("a file")
    with pytest.raises(FileExistsError) as itself:
        place.mkdir(exist_ok=True)
    with pytest.raises(NotADirectoryError) as below:
        (place / "x" / "y").mkdir()
    for raised in (itself, below):
        assert remedy(raised.value, []) == f"mv '{place}' '{place}.damaged', then the same command again"
    with pytest.raises(FileExistsError) as harmless:
        tmp_path.mkdir()
    assert remedy(harmless.value, []) == ""


@pytest.mark.parametrize("name", ["runs", "manifests", "sweeps"])
def test_fsck_names_and_renames_a_file_in_the_place_of_a_folder(tmp_path: Path, name: str) -> None:
    results = Results(tmp_path / "results")
    place = results.path / name
    if place.exists():
        place.rename(tmp_path / "before")
    place.write_text("a file")
    code, said = harness("fsck", results=results.path)
    assert (code, f"{place}: the file is damaged: it is no folder" in said) == (1, True), said
    assert harness("fsck", "--set-aside", "--yes", results=results.path)[0] == 1
    assert place.with_name(f"{name}.damaged-1").read_text() == "a file"
    assert harness("fsck", results=results.path)[0] == 0


def test_a_file_in_the_place_of_the_manifests_is_named_by_status(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    (results.path / "manifests").rename(tmp_path / "before")
    (results.path / "manifests").write_text("a file")
    code, said = harness("status", results=results.path)
    assert code == 0
    assert "manifests: the file is damaged: it is no folder" in said
    assert "next:    harness fsck --set-aside" in said
