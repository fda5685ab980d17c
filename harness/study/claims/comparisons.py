"""Which cells a claim is about: its arms' rows of the table, in each setting that the claim leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.cell import short_name
from harness.filters import parse
from harness.manifest import Claim, Manifest
from harness.study.axes import axis_columns, fixed, in_setting, settings
from harness.study.claims.measures import MEASURES, Accuracies
from harness.study.text import ABSENT, phrase, shown
from harness.study.text import axis as axis_word
from harness.study.text import setting as setting_words

if TYPE_CHECKING:
    import pandas as pd


#: Arms that differ in one of these are compared only if the claim says so.
ESSENTIAL = ("epochs", "steps", "batch_size", "method")


@dataclass(frozen=True)
class ClaimInstance:
    """A claim in a setting. ``rows``: of each arm, by its name. ``refused``: why these cells cannot speak about the
    claim; there may be no rows then. ``left``: how many seeds some arm lacks, which are not compared.
    ``unsaid``: in which axes the arms differ that neither the claim nor the setting names."""

    claim: Claim
    setting: Mapping[str, Any]
    rows: Mapping[str, pd.DataFrame]
    refused: str = ""
    dropped_seeds: int = 0
    confounds: str = ""

    @property
    def expected_cells(self) -> int:
        return sum(len(some) for some in self.rows.values())

    @property
    def finished(self) -> int:
        return sum(int(some[self.claim.metric].notna().sum()) for some in self.rows.values())

    @property
    def seeds(self) -> set[int]:
        """That all arms have, at every value of the claim's axis."""
        over = short_name(self.claim.over)
        parts = [part for some in self.rows.values() for _, part in (some.groupby(over) if over else [("", some)])]
        return set.intersection(*(set(part["seed"]) for part in parts))

    @property
    def collapsed(self) -> str:
        """Which arm has nothing to keep: that which collapsed with every seed where its accuracy would be lost from, at
        the largest value of the claim's axis. Empty where none has, or where a collapse is just a bad result."""
        over = short_name(self.claim.over)
        for name, some in self.rows.items() if MEASURES[self.claim.measure].keeps else ():
            reference = some[some[over] == some[over].max()] if over else some
            if (reference["collapse"] != "").all():
                place = f" at {phrase(over, reference[over].iloc[0])}" if over else ""
                return f"all cells of {name}{place} collapsed, which leaves no accuracy to keep"
        return ""

    def accuracies(self) -> Accuracies:
        """Of seeds that all arms have; a column a value of the claim's axis, in order."""
        over, seeds = short_name(self.claim.over), sorted(self.seeds)
        by_seed = {name: some.set_index("seed") for name, some in self.rows.items()}
        if over:
            return {
                name: some.pivot(columns=over, values=self.claim.metric).loc[seeds] for name, some in by_seed.items()
            }
        return {name: some.loc[seeds, [self.claim.metric]] for name, some in by_seed.items()}


def questions(claim: Claim, manifest: Manifest, frame: pd.DataFrame) -> list[ClaimInstance]:
    """The claim in every setting: every combination of the axes that it says nothing about."""
    import pandas as pd

    at = holds(claim.at, manifest, frame)
    names = arm_names(claim.arms)
    rows = {name: frame[at & holds(text, manifest, frame)] for name, text in zip(names, claim.arms, strict=True)}
    if absent := [name for name, some in rows.items() if some.empty]:
        place = f" at {claim.at}" if claim.at else ""
        return [ClaimInstance(claim, {}, {}, f"no cells with {' or '.join(absent)}{place} were declared")]
    open_axes = _open_axes(claim, manifest, rows)
    found = []
    for setting in settings(pd.concat(list(rows.values())), open_axes):
        own = {name: in_setting(some, setting) for name, some in rows.items()}
        found.append(_question(claim, setting, own, manifest))
    return found


def arm_names(arms: Sequence[str]) -> list[str]:
    """As people call them, without the conditions that all of them share."""
    words = [text.split() for text in arms]
    shared = set.intersection(*map(set, words)) if len(arms) > 1 else set()
    names = [named(" ".join(word for word in own if word not in shared) or text)
             for own, text in zip(words, arms, strict=True)]  # fmt: skip
    return names if len(set(names)) == len(arms) else list(arms)


def named(text: str) -> str:
    """An arm as people call it: ``loss=dcl epochs=100`` is ``DCL, epochs 100``."""
    words = []
    for condition in parse(text, short_name, "").conditions:
        values = " or ".join(phrase(condition.path, value) for value in condition.values)
        words.append(values if condition.sign == "=" else f"{condition.path} {condition.sign} {condition.values[0]}")
    return ", ".join(words)


def holds(text: str, manifest: Manifest, rows: pd.DataFrame) -> pd.Series:
    """Of each row, whether the filter holds; all of them hold an empty one."""
    import pandas as pd

    found = pd.Series(True, index=rows.index)
    for condition in parse(text, short_name, "").conditions if text else ():
        if condition.path in rows:
            holding = {value: condition.holds(value) for value in rows[condition.path].unique()}
            found &= rows[condition.path].map(holding).astype(bool)
        else:
            found &= condition.holds(fixed(manifest).get(condition.path))
    return found


def _open_axes(claim: Claim, manifest: Manifest, rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """Those with several values in an arm where the claim's own axis has one."""
    over = short_name(claim.over)
    found: list[str] = []
    for axis in axis_columns(manifest):
        for some in rows.values():
            declared = some[some[axis] != ABSENT]
            several = declared.groupby(over)[axis].nunique() if over in some else declared[[axis]].nunique()
            if axis not in ("seed", over, *found) and (several > 1).any():
                found.append(axis)
    return found


def _question(
    claim: Claim, setting: Mapping[str, Any], rows: dict[str, pd.DataFrame], manifest: Manifest
) -> ClaimInstance:
    """Of the values and seeds that all arms have."""
    if refused := _refusal(claim, setting, rows, manifest):
        return ClaimInstance(claim, setting, {}, refused)
    if over := short_name(claim.over):
        common = set.intersection(*(set(some[over]) - {ABSENT} for some in rows.values()))
        kept = {min(common), max(common)} if MEASURES[claim.measure].ends else common
        rows = {name: some[some[over].isin(list(kept))] for name, some in rows.items()}
    seeds = ClaimInstance(claim, setting, rows).seeds
    if not seeds:
        return ClaimInstance(claim, setting, {}, "its arms have no seed in common")
    shared = {name: some[some["seed"].isin(list(seeds))] for name, some in rows.items()}
    about = not claim.comparable or all(holds(claim.comparable, manifest, some).all() for some in rows.values())
    refused = "" if about else f"the claim is about {claim.comparable}"
    others = [name for name in axis_columns(manifest) if name not in ("seed", "loss")]
    unsaid = _unsaid(claim, setting, shared, others)
    return ClaimInstance(claim, setting, shared, refused, len(_seeds(rows) - seeds), unsaid)


def _refusal(claim: Claim, setting: Mapping[str, Any], rows: Mapping[str, pd.DataFrame], manifest: Manifest) -> str:
    """Why the claim cannot be asked of these cells, whatever they say."""
    found = ""
    if absent := [name for name, some in rows.items() if some.empty]:
        place = f" at {setting_words(setting)}" if setting else ""
        found = f"no cells with {' or '.join(absent)} were declared{place}"
    elif sum(map(len, rows.values())) > len(set().union(*(some["cell_id"] for some in rows.values()))):
        found = "its arms share cells"
    elif unsaid := _unsaid(claim, setting, rows, [name for name in ESSENTIAL if name in axis_columns(manifest)]):
        found = f"its arms differ in {unsaid}, of which the claim says nothing"
    elif claim.metric == "val_knn" and manifest.preset:
        found = "the learning curve is of the sweep's own evaluation"
    elif claim.over:
        found = _refused_axis(claim, rows)
    return found


def _refused_axis(claim: Claim, rows: Mapping[str, pd.DataFrame]) -> str:
    over = short_name(claim.over)
    values = [set(some[over]) - {ABSENT} if over in some else set() for some in rows.values()]
    common = set.intersection(*values)
    if len(common) < 2:
        return f"it takes at least two values of {axis_word(over)}"
    return f"{axis_word(over)} {min(common):g} has no double" if claim.measure == "slope" and min(common) <= 0 else ""


def _seeds(rows: Mapping[str, pd.DataFrame]) -> set[int]:
    return set().union(*(set(some["seed"]) for some in rows.values()))


def _unsaid(claim: Claim, setting: Mapping[str, Any], rows: Mapping[str, pd.DataFrame], axes: Sequence[str]) -> str:
    """In which of these axes the arms differ although neither the claim nor the setting names them."""
    filters = [parse(text, short_name, "") for text in (claim.at, *claim.arms) if text]
    said = {condition.path for one in filters for condition in one.conditions} | {short_name(claim.over), *setting}
    found = []
    for axis in axes:
        values = [set(some[axis]) - {ABSENT} for some in rows.values() if axis in some]
        known = [", ".join(shown(axis, value) for value in sorted(one, key=str)) for one in values if one]
        if axis not in said and len(set(known)) > 1:
            found.append(f"{axis_word(axis)} ({' and '.join(known)})")
    return ", ".join(found)
