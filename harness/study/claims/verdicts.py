"""Judges claims: from a result table to the verdict on every claim in every setting.

A claim is judged separately in each setting, a combination of values of the axes that it is not about. REPRODUCED: the
whole interval lies where the claim is true; CONTRADICTED: where it is false; INCONCLUSIVE: it holds both, or there are
fewer than three seeds; INCOMPLETE: not all cells have finished; NOT COMPARABLE: these cells cannot speak about it.

The level of an interval is the one that Holm's procedure leaves to each claim of the family that the manifest fixed:
the more claims an experiment makes, the wider its intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.manifest import Claim, Manifest
from harness.study.axes import Setting
from harness.study.claims.comparisons import ClaimInstance, instances
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
from harness.study.table import ResultTable
from harness.study.text import count

if TYPE_CHECKING:
    import pandas as pd

WORDS = ("REPRODUCED", "CONTRADICTED", "INCONCLUSIVE", "INCOMPLETE", "NOT COMPARABLE")


@dataclass(frozen=True)
class Compared:
    """A contrast in numbers: its ``values`` by seed, and its ``interval`` at the level that decides the claim."""

    label: str
    values: list[float]
    interval_95: Interval
    interval: Interval


@dataclass(frozen=True)
class Verdict:
    """The verdict (``label``) on a claim in one setting.

    ``summary``: what was measured, or why nothing was; ``next_step``: what would decide the claim; ``reservation``: why
    the measured numbers do not decide it. ``compared``: the claim's contrasts, of which the one at index ``deciding``
    decides, at ``level``; ``true``: the range in which all of them lie if the claim is true; ``paired``: whether
    differences are taken seed by seed. ``cells``: the ids of each arm's cells.
    """

    claim: Claim
    setting: Setting
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
        """The reason of the verdict in a sentence, with the reservation that takes it back, if there is one."""
        return f"{self.summary}; but {self.reservation}" if self.reservation else self.summary

    @property
    def measured(self) -> Interval:
        """The interval of the contrast that decides; it has no seeds if nothing was measured."""
        return self.compared[self.deciding].interval if self.compared else mean_interval([])

    @property
    def unit(self) -> str:
        """The unit of the claim's measure."""
        return MEASURES[self.claim.measure].unit


@dataclass(frozen=True)
class ClaimResults:
    """All verdicts of an experiment; ``effects``: whether seeds move the arms together, by metric."""

    verdicts: list[Verdict]
    effects: Mapping[str, SeedEffect]


def judge(table: ResultTable) -> ClaimResults:
    """Return the verdict on every claim of the manifest, in every setting."""
    claims = table.manifest.claims
    metrics = dict.fromkeys(claim.metric for claim in claims)
    effects = {metric: seed_effect(_by_seed_and_arm(table, metric)) for metric in metrics}
    answers = [
        _answer(instance, effects[claim.metric].paired) for claim in claims for instance in instances(claim, table)
    ]
    # A claim that these cells cannot speak about is no part of the family; one whose cells have not finished is.
    family = [answer for answer in answers if not answer.instance.refused]
    levels = iter(holm([answer.evidence.p if answer.evidence else 1.0 for answer in family]))
    verdicts = []
    for answer in answers:
        level = CONFIDENCE if answer.instance.refused else next(levels)
        verdicts.append(_verdict(answer, level, table.manifest) if answer.instance.rows else _refused(answer.instance))
    return ClaimResults(verdicts, effects)


def _by_seed_and_arm(table: ResultTable, metric: str) -> pd.DataFrame:
    """Return a metric with a row for each seed and a column for each arm that has all seeds."""
    arms = [name for name in table.axes if name != "seed"]
    by_seed = table.frame.pivot_table(index="seed", columns=arms, values=metric, observed=True)
    # First a seed that most arms do not have is left out, and then every arm that does not have all other seeds.
    return by_seed.dropna(axis="index", thresh=by_seed.shape[1] // 2 + 1).dropna(axis="columns")


@dataclass(frozen=True)
class _Answer:
    """What was measured for a claim, and what that proves; None if not all its cells have finished."""

    instance: ClaimInstance
    measured: MeasuredContrasts | None = None
    evidence: Evidence | None = None


def _answer(instance: ClaimInstance, paired: bool) -> _Answer:
    if not instance.rows or instance.finished < instance.expected_cells:
        return _Answer(instance)
    claim = instance.claim
    measured = MEASURES[claim.measure].function(claim, instance.accuracies(), margin_of(claim))
    return _Answer(
        instance, measured, Evidence([_estimate(contrast, paired) for contrast in measured.contrasts], measured.true)
    )


def _estimate(contrast: Contrast, paired: bool) -> Estimate:
    first, second = contrast.first.tolist(), contrast.second
    return of_mean(first) if second is None else of_difference(first, second.tolist(), paired)


def _refused(instance: ClaimInstance) -> Verdict:
    return Verdict(instance.claim, instance.setting, "NOT COMPARABLE", instance.refused, "cells that can be compared")


def _verdict(answer: _Answer, level: float, manifest: Manifest) -> Verdict:
    instance, measured, evidence = answer.instance, answer.measured, answer.evidence
    cells = {name: rows["cell_id"].tolist() for name, rows in instance.rows.items()}
    if measured is None or evidence is None:
        finished = f"{instance.finished} of {count(instance.expected_cells, 'cell')} have finished"
        left = f"the other {count(instance.expected_cells - instance.finished, 'cell')}"
        return Verdict(instance.claim, instance.setting, "INCOMPLETE", finished, left, cells=cells)
    unscaled = "" if manifest.comparable else manifest.caveat or "this scale is not declared comparable"
    reservation = instance.refused or instance.collapsed or unscaled
    word = "NOT COMPARABLE" if reservation else evidence.word(level)
    deciding_level = evidence.level(level)
    pairs = zip(measured.contrasts, evidence.estimates, strict=True)
    return Verdict(
        instance.claim,
        instance.setting,
        word,
        summary=measured.summary + _remarks(instance),
        next_step=_elsewhere(instance) if reservation else _next_step(word, evidence, deciding_level),
        reservation=reservation,
        compared=[_compared(contrast, estimate, deciding_level, measured.scale) for contrast, estimate in pairs],
        deciding=evidence.deciding,
        level=deciding_level,
        true=TrueRange(measured.scale(measured.true.low), measured.scale(measured.true.high)),
        paired=evidence.estimates[0].paired,
        cells=cells,
    )


def _compared(contrast: Contrast, estimate: Estimate, level: float, scale: Callable[[float], float]) -> Compared:
    values = contrast.first if contrast.second is None else contrast.first - contrast.second
    usual, interval = (_scaled(estimate.interval(confidence), scale) for confidence in (CONFIDENCE, level))
    return Compared(contrast.label, [scale(value) for value in values], usual, interval)


def _scaled(interval: Interval, scale: Callable[[float], float]) -> Interval:
    return Interval(scale(interval.mean), scale(interval.low), scale(interval.high), interval.n)


def _remarks(instance: ClaimInstance) -> str:
    """Return what a reader should know about the cells that were compared."""
    import pandas as pd

    rows = pd.concat(list(instance.rows.values()))
    remarks = []
    if instance.dropped_seeds:
        seeds = f"{count(instance.dropped_seeds, 'seed')} that some arm does not have"
        remarks.append(f"{seeds} {'is' if instance.dropped_seeds == 1 else 'are'} left out")
    if instance.confounds:
        remarks.append(f"its arms differ in {instance.confounds}, too")
    if collapsed := int((rows["collapse"] != "").sum()):
        remarks.append(f"{collapsed} of {count(len(rows), 'cell')} collapsed")
    kinds = rows.groupby("seed")["hardware"].nunique()
    if mixed := int((kinds > 1).sum()):
        remarks.append(f"in {mixed} of {count(len(kinds), 'seed')} the cells ran on different hardware")
    if (revisions := rows["revision"].nunique()) > 1:
        remarks.append(f"the cells ran with {revisions} revisions of the code")
    return "".join(f"; {remark}" for remark in remarks)


def _elsewhere(instance: ClaimInstance) -> str:
    """Return what could speak about a claim that these cells cannot speak about."""
    if instance.refused:
        return f"cells with {instance.claim.comparable}"
    return "a setting in which it learns" if instance.collapsed else "a scale that can speak about it"


def _next_step(word: str, evidence: Evidence, level: float) -> str:
    """Return what more would decide the claim."""
    if word != "INCONCLUSIVE":
        return "nothing more in this setting"
    if evidence.seeds < SEEDS:
        return f"at least {count(SEEDS - evidence.seeds, 'seed')} more of every arm"
    estimate = evidence.estimates[evidence.deciding]
    if estimate.error == 0:
        on_bound = evidence.distance < ROUNDING
        return (
            "nothing: the estimate lies exactly on the bound"
            if on_bound
            else "more seeds: these all give the same number"
        )
    needed = seeds_needed(estimate, evidence.distance, level)
    if needed is None:
        return f"more than {MOST_SEEDS} seeds per arm, since the estimate is so close to the bound"
    return f"about {needed} seeds per arm instead of {evidence.seeds}, if the mean does not change"
