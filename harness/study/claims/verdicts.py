"""Claim + table -> verdict.

A claim is judged in each setting (combination of the axes that it is not about) by itself. REPRODUCED: the whole
interval lies where the claim is true; CONTRADICTED: where it is false; INCONCLUSIVE: it holds both, or there are fewer
than three seeds; INCOMPLETE: k of n cells; NOT COMPARABLE: these cells cannot speak about the claim, and why.

The interval's level is what Holm's procedure leaves each claim of the family that the manifest fixed: the more claims
an experiment makes, the wider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.manifest import Claim, Manifest
from harness.study.axes import axis_columns
from harness.study.claims.comparisons import ClaimInstance, questions
from harness.study.claims.decision import SEEDS, Evidence
from harness.study.claims.measures import MEASURES, Contrast, MeasuredContrasts, TrueRange, margin_of
from harness.study.statistics import (
    CONFIDENCE,
    MOST_SEEDS,
    ROUNDING,
    Estimate,
    Interval,
    SeedEffect,
    holm,
    mean_interval,
    of_difference,
    of_mean,
    seed_effect,
    seeds_needed,
)
from harness.study.text import count

if TYPE_CHECKING:
    import pandas as pd

WORDS = ("REPRODUCED", "CONTRADICTED", "INCONCLUSIVE", "INCOMPLETE", "NOT COMPARABLE")


@dataclass(frozen=True)
class Compared:
    """A contrast in numbers. ``values``: one a seed; ``usual``: its 95 % interval; ``interval``: that which counts."""

    label: str
    values: list[float]
    interval_95: Interval
    interval: Interval


@dataclass(frozen=True)
class Verdict:
    """``said``: what was measured, or why nothing was; ``reservation``: why it decides nothing all the same;
    ``settle``: what more would.

    ``compared``: the claim's contrasts, of which ``deciding`` decides, at ``level``; ``true``: where they all lie if
    the claim is true; ``paired``: seed by seed. ``cells``: of each arm.
    """

    claim: Claim
    setting: Mapping[str, Any]
    label: str
    summary: str
    next_step: str
    reservation: str = ""
    compared: list[Compared] = field(default_factory=list)
    deciding: int = 0
    level: float = CONFIDENCE
    true: TrueRange | None = None
    paired: bool = True
    cells: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def why(self) -> str:
        return f"{self.summary}; but {self.reservation}" if self.reservation else self.summary

    @property
    def measured(self) -> Interval:
        """The contrast that decides; of no seeds where nothing was measured."""
        return self.compared[self.deciding].interval if self.compared else mean_interval([])

    @property
    def unit(self) -> str:
        return MEASURES[self.claim.measure].unit


@dataclass(frozen=True)
class ClaimResults:
    """Of a whole experiment. ``effects``: by metric, whether seeds move the arms together."""

    verdicts: list[Verdict]
    effects: Mapping[str, SeedEffect]


def judge(manifest: Manifest, frame: pd.DataFrame) -> ClaimResults:
    """Every claim in every setting; ``frame``: ``harness.study.frame.tidy``."""
    metrics = dict.fromkeys(claim.metric for claim in manifest.claims)
    effects = {metric: seed_effect(_by_seed_and_arm(frame, manifest, metric)) for metric in metrics}
    answers = [
        _answer(question, effects[claim.metric].paired)
        for claim in manifest.claims
        for question in questions(claim, manifest, frame)
    ]
    # What these cells cannot speak about is no part of the family; what has not finished is.
    family = [answer for answer in answers if not answer.question.refused]
    levels = iter(holm([answer.evidence.p if answer.evidence else 1.0 for answer in family]))
    verdicts = []
    for answer in answers:
        level = CONFIDENCE if answer.question.refused else next(levels)
        verdicts.append(_verdict(answer, level, manifest) if answer.question.rows else _refused(answer.question))
    return ClaimResults(verdicts, effects)


def _by_seed_and_arm(frame: pd.DataFrame, manifest: Manifest, metric: str) -> pd.DataFrame:
    """A row a seed, a column an arm; arms that lack a seed are left out."""
    arms = [name for name in axis_columns(manifest) if name != "seed"]
    table = frame.pivot_table(index="seed", columns=arms, values=metric, observed=True)
    # A seed that most arms lack does not count, and then an arm that lacks a seed does not.
    return table.dropna(axis="index", thresh=table.shape[1] // 2 + 1).dropna(axis="columns")


@dataclass(frozen=True)
class _Answer:
    """What was measured of a question, and what that says; None where its cells have not all finished."""

    question: ClaimInstance
    measured: MeasuredContrasts | None = None
    evidence: Evidence | None = None


def _answer(question: ClaimInstance, paired: bool) -> _Answer:
    if not question.rows or question.finished < question.expected_cells:
        return _Answer(question)
    claim = question.claim
    measured = MEASURES[claim.measure].function(claim, question.accuracies(), margin_of(claim))
    return _Answer(question, measured, Evidence([_estimate(one, paired) for one in measured.contrasts], measured.true))


def _estimate(contrast: Contrast, paired: bool) -> Estimate:
    first, second = contrast.first.tolist(), contrast.second
    return of_mean(first) if second is None else of_difference(first, second.tolist(), paired)


def _refused(question: ClaimInstance) -> Verdict:
    return Verdict(question.claim, question.setting, "NOT COMPARABLE", question.refused, "cells that can be compared")


def _verdict(answer: _Answer, level: float, manifest: Manifest) -> Verdict:
    question, measured, evidence = answer.question, answer.measured, answer.evidence
    cells = {name: some["cell_id"].tolist() for name, some in question.rows.items()}
    if measured is None or evidence is None:
        said = f"{question.finished} of {count(question.expected_cells, 'cell')} have finished"
        left = f"the other {count(question.expected_cells - question.finished, 'cell')}"
        return Verdict(question.claim, question.setting, "INCOMPLETE", said, left, cells=cells)
    unscaled = "" if manifest.comparable else manifest.caveat or "this scale is not declared comparable"
    reservation = question.refused or question.collapsed or unscaled
    word = "NOT COMPARABLE" if reservation else evidence.word(level)
    own = evidence.level(level)
    pairs = zip(measured.contrasts, evidence.estimates, strict=True)
    return Verdict(
        question.claim,
        question.setting,
        word,
        summary=measured.said + _reservations(question),
        next_step=_elsewhere(question) if reservation else _settle(word, evidence, own),
        reservation=reservation,
        compared=[_compared(contrast, estimate, own, measured.scale) for contrast, estimate in pairs],
        deciding=evidence.deciding,
        level=own,
        true=TrueRange(measured.scale(measured.true.low), measured.scale(measured.true.high)),
        paired=evidence.estimates[0].paired,
        cells=cells,
    )


def _compared(contrast: Contrast, estimate: Estimate, level: float, scale: Callable[[float], float]) -> Compared:
    values = contrast.first if contrast.second is None else contrast.first - contrast.second
    usual, interval = (_scaled(estimate.interval(one), scale) for one in (CONFIDENCE, level))
    return Compared(contrast.label, [scale(value) for value in values], usual, interval)


def _scaled(interval: Interval, scale: Callable[[float], float]) -> Interval:
    return Interval(scale(interval.mean), scale(interval.low), scale(interval.high), interval.n)


def _reservations(question: ClaimInstance) -> str:
    """What a reader should know of the cells that were compared."""
    import pandas as pd

    rows = pd.concat(list(question.rows.values()))
    said = []
    if question.dropped_seeds:
        seeds = f"{count(question.dropped_seeds, 'seed')} that some arm lacks"
        said.append(f"{seeds} {'is' if question.dropped_seeds == 1 else 'are'} left out")
    if question.confounds:
        said.append(f"its arms differ in {question.confounds}, too")
    if collapsed := int((rows["collapse"] != "").sum()):
        said.append(f"{collapsed} of {count(len(rows), 'cell')} collapsed")
    kinds = rows.groupby("seed")["hardware"].nunique()
    if mixed := int((kinds > 1).sum()):
        said.append(f"in {mixed} of {count(len(kinds), 'seed')} the cells ran on different hardware")
    if (revisions := rows["revision"].nunique()) > 1:
        said.append(f"the cells are of {revisions} revisions of the code")
    return "".join(f"; {one}" for one in said)


def _elsewhere(question: ClaimInstance) -> str:
    if question.refused:
        return f"cells with {question.claim.comparable}"
    return "a setting in which it learns" if question.collapsed else "a scale that can speak about it"


def _settle(word: str, evidence: Evidence, level: float) -> str:
    """What more would decide the claim."""
    if word != "INCONCLUSIVE":
        return "nothing more in this setting"
    if evidence.seeds < SEEDS:
        return f"at least {count(SEEDS - evidence.seeds, 'seed')} more of every arm"
    estimate = evidence.estimates[evidence.deciding]
    if estimate.error == 0:
        on = evidence.distance < ROUNDING
        return "nothing: it lies exactly on the bound" if on else "more seeds: these all give the same number"
    needed = seeds_needed(estimate, evidence.distance, level)
    if needed is None:
        return f"more than {MOST_SEEDS} seeds an arm, so near is it to the bound"
    return f"about {needed} seeds an arm instead of {evidence.seeds}, if the mean stays where it is"
