"""docs/security.md: each test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_promises_has_its_test(name: str) -> None:
    assert any(f"def {name}(" in path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))


def test_every_row_of_what_is_data_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 4]
    data = [row for row in rows if "held by" not in row]
    assert len(data) >= 10
    assert all(re.search(r"`test_\w+` \|$", row) for row in data)
