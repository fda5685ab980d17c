"""Which cells a claim compares: the rows of its arms, in each setting that the claim leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cell import short_name
from harness.filters import parse
from harness.manifest import Claim
from harness.study.axes import Setting, settings
from harness.study.claims.measures import MEASURES, Accuracies
from harness.study.table import ResultTable
from harness.study.text import ABSENT, axis_and_value, axis_label, setting_label, value_label

if TYPE_CHECKING:
    import pandas as pd


#: Arms that differ in one of these are compared only if the claim says so.
ESSENTIAL = ("epochs", "steps", "batch_size", "method")


@dataclass(frozen=True)
class ClaimInstance:
    """A claim in one setting, and the cells that it compares there.

    ``rows``: the cells of each arm, by the arm's name. ``refused``: why these cells cannot speak about the claim; there
    may be no rows then. ``dropped_seeds``: how many seeds are left out because some arm does not have them.
    ``confounds``: the axes on which the arms differ although neither the claim nor the setting names them.
    """

    claim: Claim
    setting: Setting
    rows: Mapping[str, pd.DataFrame]
    refused: str = ""
    dropped_seeds: int = 0
    confounds: str = ""

    @property
    def expected_cells(self) -> int:
        """How many cells the claim needs in this setting."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def finished(self) -> int:
        """How many of these cells have a value of the claim's metric."""
        return sum(int(rows[self.claim.metric].notna().sum()) for rows in self.rows.values())

    @property
    def seeds(self) -> set[int]:
        """The seeds that all arms have, at every value of the claim's axis."""
        over = short_name(self.claim.over)
        parts = [part for rows in self.rows.values() for _, part in (rows.groupby(over) if over else [("", rows)])]
        return set.intersection(*(set(part["seed"]) for part in parts))

    @property
    def collapsed(self) -> str:
        """Say which arm has no accuracy to keep: all its seeds collapsed at the value from which accuracy is lost, the
        largest one of the claim's axis. Empty if there is no such arm, or if a collapse is simply a bad result."""
        over = short_name(self.claim.over)
        for name, rows in self.rows.items() if MEASURES[self.claim.measure].keeps else ():
            reference = rows[rows[over] == rows[over].max()] if over else rows
            if (reference["collapse"] != "").all():
                place = f" at {axis_and_value(over, reference[over].iloc[0])}" if over else ""
                return f"all cells of {name}{place} collapsed, which leaves no accuracy to keep"
        return ""

    def accuracies(self) -> Accuracies:
        """Return the accuracies of the seeds that all arms have; the values of the claim's axis are in order."""
        over, seeds, metric = short_name(self.claim.over), sorted(self.seeds), self.claim.metric
        by_seed = {name: rows.set_index("seed") for name, rows in self.rows.items()}
        if over:
            return {name: rows.pivot(columns=over, values=metric).loc[seeds] for name, rows in by_seed.items()}
        return {name: rows.loc[seeds, [metric]] for name, rows in by_seed.items()}


def instances(claim: Claim, table: ResultTable) -> list[ClaimInstance]:
    """Return the claim in every setting: in each combination of values of the axes that it says nothing about."""
    import pandas as pd

    at = table.where(claim.at)
    arms = {name: at.where(text) for name, text in zip(arm_names(claim.arms), claim.arms, strict=True)}
    if absent := [name for name, arm in arms.items() if arm.frame.empty]:
        place = f" at {claim.at}" if claim.at else ""
        return [ClaimInstance(claim, {}, {}, f"no cells with {' or '.join(absent)}{place} were declared")]
    frames = [arm.frame for arm in arms.values()]
    instances = []
    for setting in settings(pd.concat(frames), _open_axes(claim, table.axes, frames)):
        rows = {name: arm.in_setting(setting).frame for name, arm in arms.items()}
        instances.append(_instance(claim, setting, rows, table))
    return instances


def arm_names(arms: Sequence[str]) -> list[str]:
    """Return each arm's filter in words, without the conditions that all arms share."""
    conditions = [text.split() for text in arms]
    shared = set.intersection(*map(set, conditions)) if len(arms) > 1 else set()
    names = [named(" ".join(word for word in words if word not in shared) or text)
             for words, text in zip(conditions, arms, strict=True)]  # fmt: skip
    return names if len(set(names)) == len(arms) else list(arms)


def named(text: str) -> str:
    """Return a filter in words: ``loss=dcl epochs=100`` is ``DCL, epochs 100``."""
    words = []
    for condition in parse(text, short_name).conditions:
        values = " or ".join(axis_and_value(condition.path, value) for value in condition.values)
        words.append(values if condition.sign == "=" else f"{condition.path} {condition.sign} {condition.values[0]}")
    return ", ".join(words)


def _open_axes(claim: Claim, axes: Sequence[str], arms: Sequence[pd.DataFrame]) -> list[str]:
    """Return the axes that have several values in some arm while the claim's own axis has one."""
    over = short_name(claim.over)

    def several(axis: str, rows: pd.DataFrame) -> bool:
        declared = rows[rows[axis] != ABSENT]
        counts = declared.groupby(over)[axis].nunique() if over in rows else declared[[axis]].nunique()
        return bool((counts > 1).any())

    return [axis for axis in axes if axis not in ("seed", over) and any(several(axis, rows) for rows in arms)]


def _instance(claim: Claim, setting: Setting, rows: dict[str, pd.DataFrame], table: ResultTable) -> ClaimInstance:
    """Return the claim in a setting, with the values of its axis and the seeds that all its arms have."""
    if refused := _refusal(claim, setting, rows, table):
        return ClaimInstance(claim, setting, {}, refused)
    if over := short_name(claim.over):
        common = _common_values(over, rows)
        kept = {min(common), max(common)} if MEASURES[claim.measure].ends else common
        rows = {name: arm[arm[over].isin(list(kept))] for name, arm in rows.items()}
    seeds = ClaimInstance(claim, setting, rows).seeds
    if not seeds:
        return ClaimInstance(claim, setting, {}, "its arms have no seed in common")
    dropped = set().union(*(set(arm["seed"]) for arm in rows.values())) - seeds
    rows = {name: arm[arm["seed"].isin(list(seeds))] for name, arm in rows.items()}
    about = all(len(table.of(arm).where(claim.comparable).frame) == len(arm) for arm in rows.values())
    refused = "" if about else f"the claim is about {claim.comparable}"
    others = [name for name in table.axes if name not in ("seed", "loss")]
    return ClaimInstance(claim, setting, rows, refused, len(dropped), _confounds(claim, setting, rows, others))


def _refusal(claim: Claim, setting: Setting, rows: Mapping[str, pd.DataFrame], table: ResultTable) -> str:
    """Say why these cells cannot speak about the claim, whatever their accuracies; empty if they can."""
    reason = ""
    if absent := [name for name, arm in rows.items() if arm.empty]:
        place = f" at {setting_label(setting)}" if setting else ""
        reason = f"no cells with {' or '.join(absent)} were declared{place}"
    elif sum(map(len, rows.values())) > len(set().union(*(arm["cell_id"] for arm in rows.values()))):
        reason = "its arms share cells"
    elif confounds := _confounds(claim, setting, rows, [name for name in ESSENTIAL if name in table.axes]):
        reason = f"its arms differ in {confounds}, of which the claim says nothing"
    elif claim.metric == "val_knn" and table.manifest.preset:
        reason = "the learning curve was measured with the evaluation of the sweep, not with this one"
    elif claim.over:
        reason = _axis_refusal(claim, rows)
    return reason


def _axis_refusal(claim: Claim, rows: Mapping[str, pd.DataFrame]) -> str:
    over = short_name(claim.over)
    common = _common_values(over, rows)
    if len(common) < 2:
        return f"it takes at least two values of {axis_label(over)}"
    if MEASURES[claim.measure].needs_positive_axis and min(common) <= 0:
        return f"{claim.measure} takes values of {axis_label(over)} above zero, and one of them is {min(common):g}"
    return ""


def _common_values(over: str, rows: Mapping[str, pd.DataFrame]) -> set[float]:
    """Return the values of an axis that all arms have."""
    return set.intersection(*(set(arm[over]) - {ABSENT} if over in arm else set() for arm in rows.values()))


def _confounds(claim: Claim, setting: Setting, rows: Mapping[str, pd.DataFrame], axes: Sequence[str]) -> str:
    """Say on which of these axes the arms differ although neither the claim nor the setting names them."""
    filters = [parse(text, short_name) for text in (claim.at, *claim.arms) if text]
    named_axes = {condition.path for parsed in filters for condition in parsed.conditions}
    named_axes |= {short_name(claim.over), *setting}
    differing = []
    for axis in axes:
        of_arms = [set(arm[axis]) - {ABSENT} for arm in rows.values() if axis in arm]
        labels = [", ".join(value_label(axis, value) for value in sorted(arm, key=str)) for arm in of_arms if arm]
        if axis not in named_axes and len(set(labels)) > 1:
            differing.append(f"{axis_label(axis)} ({' and '.join(labels)})")
    return ", ".join(differing)
