"""The tables of docs/reliability.md are those that ``tests/faults/tried.py`` has counted."""

from __future__ import annotations

import json

from tests.faults.tried import COUNTS, PAGE, on_page, tables


def test_the_page_has_the_tables_of_what_was_tried() -> None:
    counts = json.loads(COUNTS.read_text())
    assert on_page(PAGE.read_text()) == tables(counts).strip()
    assert not [what for kind in counts for what, row in counts[kind].items() if row["failed"]]
