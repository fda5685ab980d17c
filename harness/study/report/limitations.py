"""What a report's numbers cannot say, in sentences that manifest and records prove."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.manifest import Manifest
from harness.study.papers.comparison import PublishedComparison
from harness.study.table import ResultTable
from harness.study.text import axis_label, count, upper

#: The settings that a fair comparison would tune for every arm separately.
TUNED = ("temperature", "lr")


def sentences(table: ResultTable, published: Sequence[PublishedComparison]) -> list[str]:
    """Return a sentence each about the scale, the images, the seeds, what was not tuned, the cells and the code."""
    general = [_scale(table.manifest), _images(table.manifest), _seeds(table), _tuned(table)]
    return [sentence for sentence in (*general, *_cells(table.frame), _published(published)) if sentence]


def _scale(manifest: Manifest) -> str:
    return f"{upper(manifest.caveat)}." if manifest.caveat else ""


def _images(manifest: Manifest) -> str:
    return f"All cells use one data set, {manifest.dataset}: the results say nothing about other data sets."


def _seeds(table: ResultTable) -> str:
    arms = table.frame.groupby([name for name in table.axes if name != "seed"], sort=False)["seed"]
    few, most = int(arms.nunique().min()), int(arms.nunique().max())
    seeds = f"{count(most, 'seed')} per arm" if few == most else f"{few} to {most} seeds per arm"
    return (
        f"{upper(seeds)}: an interval covers what a seed changes (weights, order of the images, views), but not what "
        f"another machine or library would change."
    )


def _tuned(table: ResultTable) -> str:
    fixed = [axis_label(name) for name in TUNED if name not in table.axes or table.frame[name].nunique() < 2]
    if not fixed:
        return ""
    have = "has" if len(fixed) == 1 else "have"
    names = " and the ".join(fixed)
    return f"The {names} {have} one value for all arms: an arm that needs another value is not at its best."


def _cells(frame: pd.DataFrame) -> list[str]:
    sentences = []
    if missing := int((frame["state"] != "finished").sum()):
        no = f"{count(missing, 'cell')} of {len(frame):,} {'has' if missing == 1 else 'have'} no numbers"
        sentences.append(f"{no}; claims that need them are not judged.")
    if collapsed := int((frame["collapse"] != "").sum()):
        sentences.append(f"{count(collapsed, 'cell')} collapsed; they count as measured.")
    done = frame[frame["state"] == "finished"]
    for name, words in (("revision", "with {} revisions of the code"), ("hardware", "on {} kinds of hardware")):
        if (several := done[name].nunique()) > 1:
            sentences.append(f"The cells ran {words.format(several)}.")
    if dirty := int((done["dirty"] == True).sum()):  # noqa: E712  (None where it is not known)
        sentences.append(f"{upper(count(dirty, 'cell'))} ran with uncommitted changes of the code.")
    return sentences


def _published(published: Sequence[PublishedComparison]) -> str:
    if not published or any(item.comparable for item in published):
        return ""
    return "No published number has the same setting as an arm: the numbers are printed, but not compared."
