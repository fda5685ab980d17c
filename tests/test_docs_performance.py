"""docs/performance.md names figures and scripts that there are."""

from __future__ import annotations

import re
from pathlib import Path

from harness.cli.bench import FIGURES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/performance.md").read_text(encoding="utf-8")


def test_every_figure_stands_in_the_docs_and_every_figure_in_the_docs_exists() -> None:
    shown = re.findall(r"`?harness bench ((?:[a-z]+ ?)+)", TEXT)
    assert {name for words in shown for name in words.split()} == set(FIGURES)


def test_every_script_exists_and_takes_the_options_that_are_shown() -> None:
    commands = set(re.findall(r"python (tests/benchmarks/\w+\.py)([^`]*)`", TEXT))
    assert len(commands) >= 2
    for script, options in commands:
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", options):
            assert f'"{option}"' in source, (script, option)
