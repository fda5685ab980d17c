"""A short visit of the monkey; ``python tests/faults/monkey.py --kills 50`` is a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.monkey import Folder, check, torment


@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, epochs=15, seeds=1)
    assert folder.sweep("calm").wait() == 0, (tmp_path / "calm.log").read_text()[-4000:]
    hit = torment(folder, kills=6, seed=0)
    assert hit.total() >= 6
    check(folder)
