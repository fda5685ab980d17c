"""The abstract of a report: the answer in a few sentences."""

from __future__ import annotations

from collections import Counter

from harness.study.claims.verdicts import WORDS, Verdict
from harness.study.table import ResultTable
from harness.study.text import count, in_unit, lower, percent, upper

LEAD = {
    "REPRODUCED": "Yes, as measured here",
    "CONTRADICTED": "No, as measured here",
    "INCONCLUSIVE": "These runs do not decide it",
    "INCOMPLETE": "Not yet",
    "NOT COMPARABLE": "These cells cannot decide it",
}


def abstract(verdicts: list[Verdict], table: ResultTable) -> str:
    """Return the answer to the first claim and the count of all; without claims, how many encoders learned."""
    if not verdicts:
        done = table.frame[table.frame["test_knn"].notna()]
        better, collapsed = int((done["test_knn"] > done["init_knn"]).sum()), int((done["collapse"] != "").sum())
        return f"{better} of {len(done)} trained encoders beat their own initialisation; {collapsed} collapsed."
    claims = dict.fromkeys(verdict.claim.name for verdict in verdicts)
    first = answer(verdicts)
    return f"{first} {tally(verdicts)}" if len(claims) > 1 else first


def answer(verdicts: list[Verdict]) -> str:
    """Answer the first claim in a sentence or two, with its interval; in several settings, count each verdict."""
    first = verdicts[0]
    settings = [verdict for verdict in verdicts if verdict.claim == first.claim]
    if len(settings) > 1:
        return f"Of {len(settings)} settings, the claim that {lower(first.claim.says)} is {counted(settings, 'in ')}."
    if first.measured.n < 2:
        return f"{LEAD[first.label]}: {first.summary}."
    lead = f"{LEAD[first.label]}: {first.reservation}" if first.reservation else LEAD[first.label]
    mean, bounds = in_unit(first.measured, first.unit)
    label = first.compared[first.deciding].label
    unit = " points" if first.unit == "points" else ""
    interval = f"{mean}{unit}, {percent(first.level)} interval {bounds}"
    return f"{lead}. {upper(first.summary)}; {label} is {interval}, {count(first.measured.n, 'seed')}."


def tally(verdicts: list[Verdict]) -> str:
    """Return ``Of 4 verdicts in all, 1 is REPRODUCED, 3 are INCONCLUSIVE.``"""
    counts = Counter(verdict.label for verdict in verdicts)
    parts = [f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {word}" for word in WORDS if counts[word]]
    return f"Of {count(len(verdicts), 'verdict')} in all, {', '.join(parts)}."


def counted(verdicts: list[Verdict], before: str) -> str:
    """Return ``REPRODUCED in 3, CONTRADICTED in 1``."""
    counts = Counter(verdict.label for verdict in verdicts)
    return ", ".join(f"{word} {before}{counts[word]}" for word in WORDS if counts[word])
