"""A short visit of the monkey; ``python tests/faults/monkey.py --kills 50`` is a long one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.monkey import Folder, check, torment
from tests.faults.one_cell import epochs_again


@pytest.mark.tried("kills", "a sweep, a worker, a launcher or a rank, at random")
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = Folder(tmp_path, epochs=15, seeds=1)
    assert folder.sweep("calm").wait() == 0, (tmp_path / "calm.log").read_text()[-4000:]
    hit = torment(folder, kills=6, seed=0)
    assert hit.total() >= 6
    check(folder)
    record_property("times", hit.total())
    record_property("again", sum(epochs_again(record) for record in folder.records("wild")))
