"""How often verdicts are wrong, and what they can see: claims on accuracies whose truth is known.

``python -m tests.benchmarks.verdicts [REPETITIONS]``, minutes on one core; prints the tables of docs/statistics.md. An
accuracy is the arm's mean, plus what its seed does to every arm, plus noise, with a standard deviation of one point.
``rho`` is the correlation that seeds make between arms. The estimates, Friedman's test, the evidence and Holm's levels
are those that judge an experiment; that they are put together as ``judge`` does is checked at the end.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harness.evaluation import Evaluation
from harness.manifest import Claim, Expected, Manifest
from harness.study.claims.decision import Evidence
from harness.study.claims.measures import MEASURES, Contrast, MeasuredContrasts, TrueRange, margin_of
from harness.study.claims.verdicts import judge
from harness.study.statistics import (
    CONFIDENCE,
    Estimate,
    holm,
    of_difference,
    of_mean,
    prediction,
    seed_effect,
    seeds_needed,
)
from harness.study.table import METRICS, ResultTable

SEEDS = (3, 5, 10)
RIGHT, WRONG = "REPRODUCED", "CONTRADICTED"
LOSSES, SIZES = ("dcl", "infonce", "dclw"), (32, 64, 128, 256, 512)
#: What to do about seeds: what Friedman's test says, or the same always.
POLICIES: dict[str, bool | None] = {"by the rule": None, "always paired": True, "never paired": False}
#: In standard deviations of an arm.
EFFECTS = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Design:
    """An experiment of losses x ``sizes`` arms. ``loading``: of the seed's effect on each loss's arms, whose products
    are correlations; ``sd``: of each loss; ``heavy``: t with three degrees of freedom in place of a normal."""

    label: str
    loading: tuple[float, ...]
    sd: tuple[float, ...] = (1.0, 1.0)
    sizes: int = 3
    heavy: bool = False

    @property
    def losses(self) -> int:
        return len(self.loading)

    def accuracies(self, rng: np.random.Generator, seeds: int, repetitions: int) -> np.ndarray:
        """(repetitions, seeds, losses, sizes); every arm's mean is 0."""

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_t(3, shape) / math.sqrt(3) if self.heavy else rng.standard_normal(shape)

        loading = np.array(self.loading)[:, None]
        noise = np.sqrt(1 - loading**2) * draw(repetitions, seeds, self.losses, self.sizes)
        return np.array(self.sd)[:, None] * (loading * draw(repetitions, seeds, 1, 1) + noise)


def alike(rho: float, losses: int = 2) -> tuple[float, ...]:
    return (math.sqrt(rho),) * losses


NORMAL = [Design(f"rho {rho:g}", alike(rho)) for rho in (0, 0.5, 0.9)]
DESIGNS = [
    *NORMAL,
    Design("rho 0, two arms", alike(0), sizes=1),
    Design("rho 0.5, two arms", alike(0.5), sizes=1),
    Design("rho 0, ten arms", alike(0), sizes=5),
    Design("rho 0, one loss varies threefold", alike(0), sd=(1.0, 3.0)),
    Design("rho 0.5, one loss varies threefold", alike(0.5), sd=(1.0, 3.0)),
    Design("rho 0, heavy tails", alike(0), heavy=True),
    Design("rho 0.5, heavy tails", alike(0.5), heavy=True),
    Design("rho 0.9 in one loss, 0 in the other", (math.sqrt(0.9), 0.0)),
    Design("rho -0.5 between the losses", (math.sqrt(0.5), -math.sqrt(0.5))),
]


def is_paired(accuracies: np.ndarray) -> bool:
    """What the experiment's arms say together; ``accuracies``: (seeds, losses, sizes)."""
    return seed_effect(pd.DataFrame(accuracies.reshape(len(accuracies), -1))).paired


def family(accuracies: np.ndarray, paired: bool) -> list[Estimate]:
    """Of the first loss less the second at every size, and of how much less it loses from the last to the first."""
    first, second = accuracies[:, 0], accuracies[:, 1]
    pairs = [(first[:, size], second[:, size]) for size in range(first.shape[1])]
    if len(pairs) > 1:
        pairs.append((second[:, -1] - second[:, 0], first[:, -1] - first[:, 0]))
    return [of_difference(one.tolist(), other.tolist(), paired) for one, other in pairs]


def shifted(estimate: Estimate, by: float) -> Estimate:
    return dataclasses.replace(estimate, mean=estimate.mean + by)


def above(estimate: Estimate, margin: float = 0.0) -> Evidence:
    return Evidence([estimate], TrueRange(margin, math.inf))


def word_of(estimate: Estimate) -> str:
    return above(estimate).word(CONFIDENCE)


def words_by_holm(evidence: Sequence[Evidence]) -> list[str]:
    levels = holm([one.p for one in evidence])
    return [one.word(level) for one, level in zip(evidence, levels, strict=True)]


def quartiles(numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    low, middle, high = np.quantile(numbers, (0.25, 0.5, 0.75))
    return f"{low:.0f}, {middle:.0f}, {high:.0f}"


@dataclass
class Table:
    """Of shares in per cent, in Markdown; ``errors``: the largest Monte Carlo standard error of all in it, and that of
    those below 10."""

    title: str
    header: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    errors: tuple[float, float] = (0.0, 0.0)

    def rates(self, *shares: Sequence[float]) -> str:
        """``2.1 / 2.4``; of each number, a share for every repetition."""
        values = [100 * np.asarray(share, dtype=float) for share in shares]
        for one in values:
            error = float(one.std()) / math.sqrt(len(one)) if len(one) else 0.0
            rare = error if len(one) and one.mean() < 10 else 0.0
            self.errors = max(self.errors[0], error), max(self.errors[1], rare)
        return " / ".join(f"{one.mean():.1f}" if len(one) else "–" for one in values)

    def show(self) -> None:
        print(f"\n{self.title} Standard error at most {self.errors[0]:.1f}, below 10 at most {self.errors[1]:.2f}.\n")
        for row in [self.header, ["---"] * len(self.header), *self.rows]:
            print(f"| {' | '.join(row)} |", flush=True)


def differences(rng: np.random.Generator, repetitions: int) -> None:
    """Errors where nothing differs, and power where something does."""
    errors = Table(
        f"Differences exactly at the margin: per cent of verdicts that decide, 3 / 5 / 10 seeds, {repetitions:,} "
        "experiments each.",
        ["design", "paired", RIGHT, WRONG, "either, always paired", "either, never paired", "any of four, Holm"],
    )
    powers = Table(
        f"Differences above the margin: per cent {RIGHT}, 3 / 5 / 10 seeds, {repetitions:,} experiments each.",
        ["design", "policy", *(f"by {effect:g} sd" for effect in EFFECTS)],
    )
    for design in DESIGNS:
        shares: dict[Any, list[list[float]]] = defaultdict(list)
        for seeds in SEEDS:
            for key, share in _decided(design, design.accuracies(rng, seeds, repetitions)).items():
                shares[key].append(share)
        rule, *fixed = POLICIES
        shown = ["paired", (rule, RIGHT), (rule, WRONG), *fixed, *(["family"] if design.sizes == 3 else [])]
        cells = [errors.rates(*shares[key]) for key in shown]
        errors.rows.append([design.label, *cells, *(["–"] if design.sizes != 3 else [])])
        for policy in POLICIES if design in NORMAL else ():
            cells = [powers.rates(*shares[policy, effect]) for effect in EFFECTS]
            powers.rows.append([design.label, policy, *cells])
    errors.show()
    powers.show()


def _decided(design: Design, experiments: np.ndarray) -> dict[Any, list[float]]:
    """Of every experiment, the share of its differences that come out so, by policy and word or effect."""
    shares: dict[Any, list[float]] = defaultdict(list)
    for accuracies in experiments:
        chosen = is_paired(accuracies)
        both = {paired: family(accuracies, paired) for paired in (True, False)}
        shares["paired"].append(chosen)
        shares["family"].append(set(words_by_holm([above(one) for one in both[chosen]])) != {"INCONCLUSIVE"})
        for policy, always in POLICIES.items():
            estimates = both[chosen if always is None else always]
            words = [word_of(estimate) for estimate in estimates[: design.sizes]]
            for word in (RIGHT, WRONG):
                shares[policy, word].append(words.count(word) / len(words))
            shares[policy].append(1 - words.count("INCONCLUSIVE") / len(words))
            for effect in EFFECTS if design in NORMAL else ():
                shares[policy, effect].append(word_of(shifted(estimates[0], effect)) == RIGHT)
    return shares


@dataclass(frozen=True)
class Scenario:
    """A claim and the arms' true means: a row a loss, a column a batch size; what it may say by chance alone.

    ``wrong``: the words that are wrong, at most 2.5 % of the time each; exactly at the margin both are.
    """

    measure: str
    label: str
    means: Sequence[Sequence[float]]
    margin: float | None = None
    wrong: Sequence[str] = (RIGHT, WRONG)

    @property
    def claim(self) -> Claim:
        over = "batch_size" if MEASURES[self.measure].along else ""
        return Claim("a", "b", "c", self.measure, list(LOSSES[: len(self.means)]), over=over, margin=self.margin)

    def measured(self, accuracies: np.ndarray) -> MeasuredContrasts:
        claim = self.claim
        sizes = SIZES if claim.over else SIZES[:1]
        tables = {
            name: pd.DataFrame(80 + accuracies[:, index, : len(sizes)] + self.means[index], columns=sizes)
            for index, name in enumerate(claim.arms)
        }
        return MEASURES[claim.measure].function(claim, tables, margin_of(claim))


def step(first: float, other: float) -> list[float]:
    return [first, other, other, other, other]


def last(value: float) -> list[float]:
    return [0, 0, 0, 0, value]


FLAT = [0.0] * 5
RISING = [0.0, 0.5, 1.0, 1.5, 2.0]
SCENARIOS = [
    Scenario("equality", "margin 4, differs by 4", [[4], [0]], 4),
    Scenario("equality", "margin 4, differs by 2", [[2], [0]], 4, [WRONG]),
    Scenario("equality", "margin 4, differs by 0", [[0], [0]], 4, [WRONG]),
    Scenario("equality", "margin 0.5, differs by 0.5", [[0.5], [0]], 0.5),
    Scenario("equality", "margin 0.01, differs by 0", [[0], [0]], 0.01, [WRONG]),
    Scenario("ratio", "margin 1.05, is 1.05", [[4], [0]], 1.05),
    Scenario("ordering", "margin 0, three arms alike", [[0], [0], [0]]),
    Scenario("ordering", "margin 0, the first two alike, 8 above the third", [[8], [8], [0]]),
    Scenario("ordering", "margin 0, steps of 4", [[8], [4], [0]], None, [WRONG]),
    Scenario("drop", "margin 2, drops by 2", [RISING], 2),
    Scenario("drop", "two arms that both drop by 2", [RISING, RISING]),
    Scenario("drop_from_best", "margin 2, drops by 2 from one best value", [last(2)], 2),
    Scenario("drop_from_best", "margin 2, drops by 2 from four best values", [step(0, 2)], 2),
    Scenario("drop_from_best", "margin 0.5, drops by 0.5 from one best value", [last(0.5)], 0.5),
    Scenario("drop_from_best", "margin 0.5, drops by 0.5 from four best values", [step(0, 0.5)], 0.5),
    Scenario("drop_from_best", "margin 0.1, drops by 0.1 from one best value", [last(0.1)], 0.1),
    Scenario("drop_from_best", "margin 0.5, flat", [FLAT], 0.5, [WRONG]),
    Scenario("spread", "margin 4, two values apart by 4", [[0, 2, 2, 2, 4]], 4),
    Scenario("spread", "margin 4, one value apart by 4 from four", [last(4)], 4),
    Scenario("spread", "margin 4, flat", [FLAT], 4, [WRONG]),
    Scenario("spread", "margin 0.01, flat", [FLAT], 0.01, [WRONG]),
    Scenario("spread", "margin 1, one value apart by 4 from four", [last(4)], 1, [RIGHT]),
    Scenario("slope", "margin 0.5, rises by 0.5 a doubling", [RISING], 0.5),
    Scenario("slope", "margin 0.5, flat", [FLAT], 0.5, [WRONG]),
    Scenario("slope", "two arms that both rise by 0.5 a doubling", [RISING, RISING]),
]


def estimated(contrasts: Sequence[Contrast], paired: bool) -> list[Estimate]:
    return [
        of_mean(first) if second is None else of_difference(first, second.tolist(), paired)
        for first, second in ((one.first.tolist(), one.second) for one in contrasts)
    ]


def measures(rng: np.random.Generator, repetitions: int) -> None:
    """Every measure, at the margin and away from it."""
    design = Design("rho 0.5", alike(0.5, 3), sd=(1, 1, 1), sizes=len(SIZES))
    words: dict[tuple[int, int], list[str]] = defaultdict(list)
    for seeds in SEEDS:
        for accuracies in design.accuracies(rng, seeds, repetitions):
            paired = is_paired(accuracies)
            for index, scenario in enumerate(SCENARIOS):
                measured = scenario.measured(accuracies)
                evidence = Evidence(estimated(measured.contrasts, paired), measured.true)
                words[index, seeds].append(evidence.word(CONFIDENCE))
    table = Table(
        "Every measure, three losses x five batch sizes, rho 0.5: per cent of verdicts, wrong ones bold, 3 / 5 / 10 "
        f"seeds, {repetitions:,} experiments each.",
        ["measure", "truth", RIGHT, WRONG],
    )
    for index, scenario in enumerate(SCENARIOS):
        cells = []
        for word in (RIGHT, WRONG):
            said = table.rates(*([one == word for one in words[index, seeds]] for seeds in SEEDS))
            cells.append(f"**{said}**" if word in scenario.wrong else said)
        table.rows.append([f"`{scenario.measure}`", scenario.label, *cells])
    table.show()


@dataclass(frozen=True)
class Case:
    """A claim about every two of ``values`` arms, whose contrasts are all ``effect`` on average."""

    claim: str
    values: int
    true: TrueRange
    effect: float
    rho: float
    paired: bool

    def __str__(self) -> str:
        return f"{self.claim}, {self.effect:g} sd, rho {self.rho:g}, {'paired' if self.paired else 'unpaired'}"

    def experiments(self, rng: np.random.Generator, seeds: int, repetitions: int) -> np.ndarray:
        """(repetitions, seeds, values)."""
        design = Design("", alike(self.rho, losses=1), sd=(1.0,), sizes=self.values)
        return design.accuracies(rng, seeds, repetitions)[:, :, 0]

    def evidence(self, accuracies: np.ndarray) -> Evidence:
        pairs = itertools.combinations(accuracies.T.tolist(), 2)
        found = [of_difference(one, other, self.paired) for one, other in pairs]
        return Evidence([shifted(one, self.effect) for one in found], self.true)

    @functools.cache  # noqa: B019
    def power(self, seeds: int) -> float:
        """Per cent REPRODUCED, of one claim by itself: exactly for a difference, else of 4,000 simulated t tests."""
        df = seeds - 1 if self.paired else 2 * seeds - 2
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, df)
        if self.true.high == math.inf:
            error = math.sqrt((2 - 2 * self.rho) / seeds)
            return 100 * float(stats.nct.sf(reach, df, self.effect / error))
        assert self.paired
        drawn = self.experiments(np.random.default_rng(seeds), seeds, 4000)
        inside = np.ones(len(drawn), dtype=bool)
        for one, other in itertools.combinations(range(self.values), 2):
            differences = drawn[:, :, one] - drawn[:, :, other] + self.effect
            half = reach * differences.std(axis=1, ddof=1) / math.sqrt(seeds)
            inside &= np.abs(differences.mean(axis=1)) + half < self.true.high
        return 100 * float(inside.mean())


POSITIVE = TrueRange(0, math.inf)
CASES = [
    Case("difference", 2, POSITIVE, 1.0, 0.0, False),
    Case("difference", 2, POSITIVE, 2.0, 0.0, False),
    Case("difference", 2, POSITIVE, 1.0, 0.5, True),
    Case("difference", 2, POSITIVE, 2.0, 0.5, True),
    Case("equality within 2", 2, TrueRange(-2, 2), 0.0, 0.5, True),
    Case("spread of 5 values within 2", 5, TrueRange(-2, 2), 0.0, 0.5, True),
]


def seeds_that_settle(rng: np.random.Generator, repetitions: int) -> None:
    """What an inconclusive claim asks for, and the power that it would really have with it."""
    table = Table(
        "What inconclusive claims ask for: seeds per arm, and the power (per cent) that these really have; quartiles "
        f"and per cent of the inconclusive ones of {repetitions:,} experiments.",
        ["truth", "seeds", "inconclusive", "seeds of power 80", "asked for", "power reached", "80 reached",
         "more than 200 asked for", "seems false"],
    )  # fmt: skip
    for case, seeds in itertools.product(CASES, (3, 5)):
        asked: list[int | None] = []
        backwards: list[bool] = []
        for accuracies in case.experiments(rng, seeds, repetitions):
            evidence = case.evidence(accuracies)
            if evidence.word(CONFIDENCE) == "INCONCLUSIVE":
                deciding, level = evidence.estimates[evidence.deciding], evidence.level(CONFIDENCE)
                asked.append(seeds_needed(deciding, evidence.distance, level))
                backwards.append(evidence.speaks_against)
        known = [number for number in asked if number is not None]
        reached = [case.power(number) for number in known]
        sure = next(number for number in itertools.count(3) if case.power(number) >= 80)
        shares = [one >= 80 for one in reached], [number is None for number in asked], backwards
        table.rows.append(
            [str(case), str(seeds), str(len(asked)), str(sure), quartiles(known), quartiles(reached),
             *map(table.rates, shares)]
        )  # fmt: skip
    table.show()


def told_the_truth(rng: np.random.Generator, repetitions: int) -> None:
    """The number of seeds for an estimate that is exactly right, and the power measured there."""
    table = Table(
        f"The same for an estimate that is exactly right: power measured (per cent), {repetitions:,} experiments each.",
        ["truth", "asked for", "power"],
    )
    for case in CASES:
        error, df = math.sqrt((2 - 2 * case.rho) / 3), 2 if case.paired else 4
        truth = Evidence([Estimate(case.effect, error, df, 3, case.paired)], case.true)
        number = seeds_needed(truth.estimates[0], truth.distance, CONFIDENCE)
        assert number is not None
        words = [case.evidence(one).word(CONFIDENCE) for one in case.experiments(rng, number, repetitions)]
        table.rows.append([str(case), str(number), table.rates([word == RIGHT for word in words])])
    table.show()


def predictions(rng: np.random.Generator, repetitions: int) -> None:
    """Where one more run lies."""
    table = Table(
        f"One more run of an arm lies in its prediction interval: per cent, {repetitions:,} arms each.",
        ["accuracies", *(f"{seeds} seeds" for seeds in SEEDS)],
    )
    for label, heavy in (("normal", False), ("heavy tails", True)):
        design, covered = Design("", (0.0,), sd=(1.0,), sizes=1, heavy=heavy), []
        for seeds in SEEDS:
            runs = design.accuracies(rng, seeds + 1, repetitions)[..., 0, 0]
            found = [(prediction(values[:-1].tolist()), values[-1]) for values in runs]
            covered.append([interval.low <= value <= interval.high for interval, value in found])
        table.rows.append([label, *map(table.rates, covered)])
    table.show()


CLAIMS = [
    *(Claim(f"at-{size}", "a", "b", "difference", ["loss=dcl", "loss=infonce"], at=f"batch_size={size}")
      for size in SIZES[:3]),
    Claim("drop", "a", "b", "drop", ["loss=dcl", "loss=infonce"], over="batch_size"),
]  # fmt: skip


def experiment(seeds: int) -> ResultTable:
    """Return the table of two losses x three batch sizes, without accuracies."""
    axes: dict[str, list[Any]] = {
        "loss.name": list(LOSSES[:2]),
        "batch_size": list(SIZES[:3]),
        "seed": list(range(seeds)),
    }
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    cells = [Expected(f"cell{index}", point) for index, point in enumerate(points)]
    settings = {"loss": {"name": "infonce"}, "batch_size": 256, "epochs": 1, "seed": 0}
    manifest = Manifest(
        "known", "demo", "", "", "", True, "digits", axes, cells, CLAIMS, Evaluation(), settings, [], ""
    )
    same = {
        "state": "finished",
        "epochs": 1,
        **dict.fromkeys(METRICS, 0.0),
        "collapse": "",
        "hardware": "h",
        "revision": "r",
    }
    rows = [{"cell_id": cell.cell_id, "loss": point["loss.name"], "batch_size": point["batch_size"],
             "seed": point["seed"], **same} for cell, point in zip(cells, points, strict=True)]  # fmt: skip
    return ResultTable(manifest, pd.DataFrame(rows))


def whole_experiments(rng: np.random.Generator, repetitions: int) -> None:
    """Count how often ``judge`` gives the same verdicts as the parts that the tables above were made with."""
    table = experiment(seeds=5)
    for design in NORMAL:
        equal = 0
        for accuracies in design.accuracies(rng, 5, repetitions):
            table.frame["test_knn"] = 80 + accuracies.transpose(1, 2, 0).ravel()
            words = [verdict.label for verdict in judge(table).verdicts]
            equal += words == words_by_holm([above(one) for one in family(accuracies, is_paired(accuracies))])
        print(f"\n{design.label}: judge says the same of all four claims in {equal} of {repetitions} experiments.")


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    gc.freeze()  # statsmodels collects garbage in every call, among all that was imported
    parts: list[tuple[Callable[[np.random.Generator, int], None], int]] = [
        (differences, repetitions),
        (measures, repetitions),
        (seeds_that_settle, repetitions // 4),
        (told_the_truth, repetitions),
        (predictions, repetitions),
        (whole_experiments, repetitions // 20),
    ]
    for index, (part, count) in enumerate(parts):
        started = time.monotonic()
        part(np.random.default_rng([20261, index]), count)
        print(f"\n({part.__name__}: {time.monotonic() - started:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
