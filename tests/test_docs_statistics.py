"""What docs/statistics.md shows is declared and judged, and what it says of measures and words is all there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli.shared.load_experiment import load
from harness.study.claims.measures import MEASURES
from harness.study.claims.verdicts import WORDS, judge
from harness.study.frame import tidy
from harness.sweep.launch import Declared

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT[TEXT.index(f"\n## {title}\n") :].split("\n## ")[1]


def rows(title: str) -> list[list[str]]:
    """Of the section's first table, without its header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / shown.partition("\n")[0].removeprefix("# ")
    path.write_text(shown, encoding="utf-8")
    return load(str(path), [], tmp_path / "results")


def test_the_example_is_declared_and_has_every_measure_once(declared: Declared) -> None:
    assert [claim.measure for claim in declared.manifest.claims] == list(MEASURES)


def test_the_example_is_judged_at_both_temperatures(declared: Declared, tmp_path: Path) -> None:
    """On accuracies that only the seed moves: exactly at a margin of 0, far from any other."""
    table = tidy(declared.manifest, tmp_path / "results")
    for metric in ("test_knn", "test_linear"):
        table.frame[metric] = 50.0 + table.frame["seed"]
    words = [(verdict.claim.name, verdict.label) for verdict in judge(table).verdicts]
    expected = {
        "better": "CONTRADICTED",
        "times": "CONTRADICTED",
        "as-good": "REPRODUCED",
        "order": "INCONCLUSIVE",
        "robust": "INCONCLUSIVE",
        "near-its-best": "REPRODUCED",
        "flat": "NOT COMPARABLE",
        "gentle": "INCONCLUSIVE",
    }
    assert sorted(words) == sorted(2 * list(expected.items()))


def test_every_measure_is_in_the_table_once_for_every_number_of_arms() -> None:
    found = [(name.strip("`"), arms) for name, arms, *_ in rows("Measures")]
    counts = {
        (name, "3 or more" if len(measure.arms) > 2 else str(count))
        for name, measure in MEASURES.items()
        for count in measure.arms
    }
    assert len(found) == len(counts)
    assert set(found) == counts


def test_the_margins_in_the_table_are_the_measures_own() -> None:
    for name, arms, _, true, margin in rows("Measures"):
        measure = MEASURES[name.strip("`")]
        needed = measure.margin is None or (measure.along and arms == "1")
        assert margin == ("must be declared" if needed else f"{measure.margin:g}"), name
        assert ("between" in true) == (measure.margin is None or (name, arms) == ("`slope`", "1")), name


def test_every_word_of_a_verdict_is_in_the_table() -> None:
    assert [word for word, _ in rows("Verdicts")] == list(WORDS)


def test_the_command_that_made_the_numbers_exists() -> None:
    (command,) = re.findall(r"python -m (tests\.benchmarks\.\w+)", TEXT)
    assert (ROOT / f"{command.replace('.', '/')}.py").exists()


def test_every_reference_that_is_cited_is_listed() -> None:
    listed = re.findall(r"^- .*?(\w+) (\d{4}),", section("References"), re.MULTILINE)
    assert len(listed) == 6
    body = TEXT[: TEXT.index("## References")]
    for name, year in listed:
        assert re.search(rf"{name}\W[^.]*{year}|{name}'s \({year}\)", body.replace("\n", " ")), name
