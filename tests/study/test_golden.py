"""Reports of known records say what they said when somebody last read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.study.golden import FOLDER, SCENARIOS, printed, text


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_report_says_what_it_said(name: str, tmp_path: Path) -> None:
    assert text(name, tmp_path) == (FOLDER / f"{name.replace(' ', '_')}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("clear effect", "REPRODUCED"),
        ("no effect", "INCONCLUSIVE"),
        ("too few seeds", "INCONCLUSIVE"),
        ("missing cells", "INCOMPLETE"),
        ("collapsed arm", "NOT COMPARABLE"),
        ("mixed revisions", "REPRODUCED"),
    ],
)
def test_each_ends_with_its_verdict(name: str, word: str, tmp_path: Path) -> None:
    assert [verdict.word for verdict in printed(name, tmp_path).verdicts.rows] == [word]
