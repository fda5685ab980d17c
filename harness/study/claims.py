"""Claim + table -> verdict.

A claim is judged in each setting (combination of the other axes) by itself. Verdicts: REPRODUCED (the whole interval
lies where the claim is true), CONTRADICTED (where it is false), INCONCLUSIVE (it holds both, or there are fewer than
three seeds), INCOMPLETE (k of n cells), NOT COMPARABLE (the scale cannot speak about the claim; it says why).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.catalog import LOSSES, loss_label
from harness.errors import UserError, nearest
from harness.manifest import Claim, Manifest
from harness.study.frame import METRICS, in_setting, settings
from harness.study.statistics import Interval, mean_interval, signed

if TYPE_CHECKING:  # a plan checks claims, and must not wait for pandas
    import pandas as pd

#: Fewer seeds than these decide nothing: with two, a 95 % interval is nine standard deviations wide on each side.
SEEDS = 3


@dataclass(frozen=True)
class Verdict:
    """``measured``: the claimed quantity in points of accuracy, positive where the claim is true.

    ``said``: what was measured, or why nothing was; ``reservation``: why it decides nothing all the same.
    """

    claim: Claim
    setting: Mapping[str, Any]
    word: str
    measured: Interval
    said: str
    reservation: str = ""

    @property
    def why(self) -> str:
        return f"{self.said}; but {self.reservation}" if self.reservation else self.said


def judge(manifest: Manifest, frame: pd.DataFrame) -> list[Verdict]:
    """Every claim in every setting of its two losses."""
    found = []
    for claim in manifest.claims:
        own = frame[frame["loss"].isin([claim.loss, claim.baseline])]
        rows = frame if own.empty else own
        found += [_judge(claim, setting, manifest, frame) for setting in settings(manifest, rows)]
    return found


def check_claims(claims: list[Claim], where: Callable[[str], str]) -> None:
    """Raises a UserError where a claim names a kind, metric or loss that does not exist; ``where``: of a key."""
    for index, claim in enumerate(claims):
        for what, value, allowed in (
            ("kind", claim.kind, list(MEASURES)),
            ("metric", claim.metric, list(METRICS)),
            ("loss", claim.loss, list(LOSSES)),
            ("loss", claim.baseline, list(LOSSES)),
        ):
            if value not in allowed:
                raise UserError(
                    f"{claim.name}: unknown {what} '{value}'{nearest(value, allowed)}",
                    where=where(f"claims[{index}]"),
                    allowed=", ".join(allowed),
                )


def smaller_drop(claim: Claim, rows: pd.DataFrame) -> tuple[list[float], str]:
    """How much less ``loss`` loses than ``baseline`` from the largest batch to the smallest: one number a seed.

    ``(A_loss(B_min) - A_loss(B_max)) - (A_baseline(B_min) - A_baseline(B_max))``, paired by seed. Where accuracy
    rises as the batch shrinks (equal epochs are more steps), this is how much more ``loss`` gains.
    """
    small, large = rows["batch_size"].min(), rows["batch_size"].max()
    table = rows.pivot_table(index="seed", columns=["loss", "batch_size"], values=claim.metric)
    changes = {name: (table[name, small] - table[name, large]).dropna() for name in (claim.loss, claim.baseline)}
    differences = changes[claim.loss] - changes[claim.baseline]
    said = " and ".join(f"{loss_label(name)} changes by {signed(change.mean())}" for name, change in changes.items())
    return differences.tolist(), f"from batch {large} to {small}, {said} points"


MEASURES = {"smaller_drop": smaller_drop}


def _judge(claim: Claim, setting: dict[str, Any], manifest: Manifest, frame: pd.DataFrame) -> Verdict:
    rows = in_setting(frame[frame["loss"].isin([claim.loss, claim.baseline])], setting)
    ends = rows[rows["batch_size"].isin([rows["batch_size"].min(), rows["batch_size"].max()])]
    finished = ends[ends[claim.metric].notna()]
    absent = [loss_label(name) for name in (claim.loss, claim.baseline) if name not in set(rows["loss"])]
    if absent or rows["batch_size"].nunique() < 2:
        why = f"no cells with {' or '.join(absent)} were declared" if absent else "it takes at least two batch sizes"
        return Verdict(claim, setting, "NOT COMPARABLE", mean_interval([]), why)
    if len(finished) < len(ends):
        why = f"{len(finished)} of {len(ends)} cells have finished"
        return Verdict(claim, setting, "INCOMPLETE", mean_interval([]), why)
    values, said = MEASURES[claim.kind](claim, finished)
    measured = mean_interval(values)
    if measured.n < SEEDS:
        said += f"; {measured.n} seed{'s decide' if measured.n > 1 else ' decides'} nothing, it takes {SEEDS}"
    said += _mixed_hardware(finished)
    if not manifest.comparable:
        return Verdict(claim, setting, "NOT COMPARABLE", measured, said, manifest.caveat)
    return Verdict(claim, setting, decide(measured), measured, said)


def _mixed_hardware(rows: pd.DataFrame) -> str:
    """A warning where cells that are compared, of one seed and batch size, were computed on different hardware."""
    kinds = rows.groupby(["seed", "batch_size"])["hardware"].nunique()
    mixed = int((kinds > 1).sum())
    return f"; {mixed} of {len(kinds)} pairs of cells ran on different hardware" if mixed else ""


def decide(measured: Interval) -> str:
    """The verdict of an interval of a quantity that is positive where the claim is true."""
    if measured.n >= SEEDS and measured.low > 0:
        return "REPRODUCED"
    if measured.n >= SEEDS and measured.high < 0:
        return "CONTRADICTED"
    return "INCONCLUSIVE"
