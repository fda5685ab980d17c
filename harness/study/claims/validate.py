"""Refuses claims that cannot be measured, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.errors import UserError, below, nearest
from harness.manifest import Claim
from harness.study.claims.measures import MEASURES
from harness.study.papers import published
from harness.study.table import METRICS


def check_claims(claims: Sequence[Claim]) -> None:
    """Check that what the claims declare can be measured.

    Raises:
        UserError: A claim is about something that cannot be measured.
    """
    names = [claim.name for claim in claims]
    for index, claim in enumerate(claims):
        with below(f"claims[{index}]"):
            if names.index(claim.name) < index:
                what = f"two claims are called '{claim.name}'"
                raise UserError(what, key="name", allowed="names that differ")
            _check_claim(claim)


def _check_claim(claim: Claim) -> None:
    _check_word(claim, "measure", claim.measure, list(MEASURES))
    _check_word(claim, "metric", claim.metric, list(METRICS))
    if claim.paper:
        _check_word(claim, "paper", claim.paper, list(published.papers()))
    for reference in claim.published:
        with below("published"):
            published.number(reference)
    _check_arms(claim)
    _check_margin(claim)


def _check_word(claim: Claim, what: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        unknown = f"{claim.name}: unknown {what} '{value}'{nearest(value, allowed)}"
        raise UserError(unknown, key=what, allowed=", ".join(allowed))


def _check_arms(claim: Claim) -> None:
    measure = MEASURES[claim.measure]
    if len(claim.arms) not in measure.arms or len(set(claim.arms)) < len(claim.arms):
        counts = "3 or more" if len(measure.arms) > 2 else " or ".join(map(str, measure.arms))
        what = f"{claim.name}: {claim.measure} takes {counts} different arms"
        raise UserError(what, key="arms", allowed="filters, such as [loss=dcl, loss=infonce]")
    if measure.along and not claim.over:
        what = f"{claim.name}: {claim.measure} is measured along an axis"
        raise UserError(what, key="over", allowed="over: AXIS, such as batch_size")
    if claim.over and not measure.along:
        what = f"{claim.name}: {claim.measure} is not measured along an axis"
        raise UserError(what, key="over", allowed="at: a filter that leaves one value of it")


def _check_margin(claim: Claim) -> None:
    """Check that a margin is declared if the measure has none: it must not be chosen by the result."""
    alone = MEASURES[claim.measure].along and len(claim.arms) == 1
    if claim.margin is None and (alone or MEASURES[claim.measure].margin is None):
        what = f"{claim.name}: {claim.measure} needs a margin"
        raise UserError(what, key="margin", allowed="points of accuracy, such as margin: 0.5")
    if claim.margin is not None and not math.isfinite(claim.margin):
        raise UserError(f"{claim.name}: margin {claim.margin:g}", key="margin", allowed="a finite number")
    positive = len(claim.arms) in MEASURES[claim.measure].positive_margin
    if claim.margin is not None and claim.margin <= 0 and positive:
        raise UserError(f"{claim.name}: margin {claim.margin:g}", key="margin", allowed="margin > 0")
