"""Verdicts for programs: what ``harness verify --json`` prints, and what a report writes next to its table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from harness.study.claims.verdicts import ClaimResults, Verdict
from harness.trees import Node, Tree


def as_json(judged: ClaimResults) -> Tree:
    """Return ``seeds`` (for every metric, whether they move the arms together, so that differences are paired) and
    ``verdicts`` (in the order of the claims). A number that does not exist is null."""
    effects = {metric: {**vars(effect), "paired": effect.paired} for metric, effect in judged.effects.items()}
    return {"seeds": _finite(effects), "verdicts": [_finite(_fields(verdict)) for verdict in judged.verdicts]}


def _fields(verdict: Verdict) -> Mapping[str, object]:
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
                "label": contrast.label,
                "values": contrast.values,
                "interval_95": vars(contrast.interval_95),
                "interval": vars(contrast.interval),
            }
            for contrast in verdict.compared
        ],
        "cells": {name: list(cells) for name, cells in verdict.cells.items()},
    }


def _finite(node: Any) -> Node:
    """Return plain values: numbers of Python for those of numpy, and null for NaN and infinity, which JSON does not
    have."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_finite(value) for value in node]
    if hasattr(node, "item"):  # a number of numpy
        node = node.item()
    return None if isinstance(node, float) and not math.isfinite(node) else node
