"""Verdicts for programs: what ``harness verify --json`` prints and a report keeps beside its table."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from harness.study.claims.verdicts import ClaimResults, Verdict


def as_json(judged: ClaimResults) -> dict[str, Any]:
    """``seeds``: of every metric, whether they move the arms together, so that differences are paired; ``verdicts``: in
    the order of the claims. A number that does not exist is null."""
    effects = {metric: {**vars(effect), "paired": effect.paired} for metric, effect in judged.effects.items()}
    found: dict[str, Any] = _finite({"seeds": effects, "verdicts": [_verdict(verdict) for verdict in judged.verdicts]})
    return found


def _verdict(verdict: Verdict) -> dict[str, Any]:
    true = verdict.true
    return {
        "claim": dataclasses.asdict(verdict.claim),
        "setting": dict(verdict.setting),
        "verdict": verdict.label,
        "measured": vars(verdict.measured),
        "unit": verdict.unit,
        "level": verdict.level,
        "true_above": true.low if true else None,
        "true_below": true.high if true else None,
        "paired": verdict.paired,
        "why": verdict.why,
        "settle": verdict.next_step,
        "contrasts": [
            {
                "label": one.label,
                "values": one.values,
                "interval_95": vars(one.interval_95),
                "interval": vars(one.interval),
            }
            for one in verdict.compared
        ],
        "cells": {name: list(cells) for name, cells in verdict.cells.items()},
    }


def _finite(node: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_finite(value) for value in node]
    if hasattr(node, "item"):  # of numpy
        node = node.item()
    return None if isinstance(node, float) and not math.isfinite(node) else node
