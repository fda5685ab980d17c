"""What a report prints of an experiment: its verdicts, tables and sentences as a Chapter, which ``report.typ`` sets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.cell import short_name
from harness.datasets import DATASETS
from harness.diagnostics import DIAGNOSTICS
from harness.manifest import Claim
from harness.study.claims.comparisons import named
from harness.study.claims.measures import MEASURES
from harness.study.claims.verdicts import ClaimResults, Verdict, judge
from harness.study.papers import comparison
from harness.study.papers.comparison import PublishedComparison
from harness.study.papers.published import STATUSES, described_setting, papers
from harness.study.report import abstract, limitations
from harness.study.report.design import design
from harness.study.report.document import Chapter, ClaimSection, PrintedTable, VerdictRow, VerdictTable
from harness.study.report.tables import for_people
from harness.study.table import METRICS, ResultTable
from harness.study.text import METRIC_LABELS, axis_label, count, in_unit, percent, setting_label, upper, value_label

HEADERS = {
    "q_mean": "q",
    "q_05": "q 5 %",
    "q_95": "q 95 %",
    "negatives_ess": "ESS",
    "positive_similarity": "pos.",
    "negative_similarity": "neg.",
    "alignment": "align.",
    "uniformity": "unif.",
    "effective_rank": "rank",
    "gradient_norm": "|grad|",
}
#: The most rows of a table; a longer one ends with a note that says which file has all of them.
MOST_ROWS = 300


@dataclass(frozen=True)
class Study:
    """An experiment at a scale, collected and judged.

    ``published``: by the name of each claim, the numbers that it refers to; ``same_images``: all that others report of
    these losses on this data set.
    """

    table: ResultTable
    judged: ClaimResults
    published: Mapping[str, list[PublishedComparison]]
    same_images: list[PublishedComparison]

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts of all claims, in the order of the manifest."""
        return self.judged.verdicts

    @property
    def answer(self) -> str:
        """The abstract, which answers the claims."""
        return abstract.abstract(self.verdicts, self.table)

    @property
    def numbers(self) -> list[PublishedComparison]:
        """Every published number once."""
        every = [*itertools.chain(*self.published.values()), *self.same_images]
        return list({(item.number.paper, item.number.id): item for item in every}.values())

    def of_claim(self, name: str) -> list[Verdict]:
        """Return the verdicts on a claim, one for each setting."""
        return [verdict for verdict in self.verdicts if verdict.claim.name == name]


def study(table: ResultTable) -> Study:
    """Judge the claims and find the published numbers."""
    return Study(table, judge(table), comparison.of_claims(table), comparison.of_same_images(table))


def content(study: Study) -> Chapter:
    """Return everything that the template prints of an experiment, except its figures."""
    table, manifest, frame = study.table, study.table.manifest, study.table.frame
    arms, rows = for_people(table), verdict_rows(study)
    finished, along = int((frame["state"] == "finished").sum()), table.main_axis
    return Chapter(
        title=manifest.title,
        name=manifest.name,
        scale=manifest.scale,
        dataset=manifest.dataset + (f", evaluated on {DATASETS[manifest.on.name].label}" if manifest.on else ""),
        question=manifest.question,
        answer=study.answer,
        caveat=upper(manifest.caveat),
        cells_line=f"{finished} of {count(len(frame), 'cell')}",
        panels=len(table.settings(along)) if along else 1,
        heading=f"Accuracy against {axis_label(along)}" if along else "Accuracy",
        table=_cut(list(arms.columns), arms.to_numpy().tolist(), f"{manifest.name}.table.csv"),
        verdicts=VerdictTable(rows[:MOST_ROWS], _note(len(rows), f"{manifest.name}.claims.json")),
        pairing=_pairing(study),
        claims=[_claim(name, study) for name in dict.fromkeys(claim.name for claim in manifest.claims)],
        published=_published(study),
        unread=_unread(study),
        limitations=limitations.sentences(table, study.numbers),
        design=design(manifest),
        diagnostics=_diagnostics(table),
        collapsed=_collapsed(table),
        confounds=_confounds(frame),
        excluded=[f"{item.where} ({count(item.cells, 'cell')}): {item.reason}." for item in manifest.exclusions],
        run=_run(table),
        appendix=_appendix(table),
    )


def _cut(header: list[str], rows: list[list[str]], file: str, labels: int = 0) -> PrintedTable:
    """Return the first rows of a table, with a note of the file that has all of them."""
    return PrintedTable(header, rows[:MOST_ROWS], _note(len(rows), file), labels)


def _note(rows: int, file: str) -> str:
    return f"The first {MOST_ROWS} of {rows:,} rows; all of them are in {file}." if rows > MOST_ROWS else ""


def verdict_rows(study: Study) -> list[VerdictRow]:
    """Return the rows of the table of verdicts."""
    return [_verdict(verdict, study) for verdict in study.verdicts]


def _verdict(verdict: Verdict, study: Study) -> VerdictRow:
    measured = verdict.measured
    mean, bounds = in_unit(measured, verdict.unit)
    caveat = study.table.manifest.caveat  # the summary of the report says it once
    return VerdictRow(
        name=verdict.claim.name,
        says=verdict.claim.says,
        source=_source(verdict.claim),
        setting=setting_label(verdict.setting),
        published=_published_values(study.published.get(verdict.claim.name, [])),
        measured=mean if measured.n else "–",
        interval=f"{bounds} ({percent(verdict.level)})" if measured.n > 1 else "–",
        seeds=str(measured.n) if measured.n else "–",
        word=verdict.label,
        why=upper(verdict.summary if verdict.reservation == caveat else verdict.why),
        settle=verdict.next_step,
    )


def _source(claim: Claim) -> str:
    return f"{papers()[claim.paper].cite}, {claim.source}" if claim.paper else claim.source


def _published_values(published: Sequence[PublishedComparison]) -> str:
    """Return ``68.2, 61.8 †``: the dagger says that some setting differs from the one that was measured."""
    values = ", ".join(f"{item.number.value:g}" for item in published if item.number.published)
    return f"{values} †" if values and not all(item.comparable for item in published) else values or "–"


def _claim(name: str, study: Study) -> ClaimSection:
    verdicts = study.of_claim(name)
    claim = verdicts[0].claim
    return ClaimSection(
        name=name,
        says=claim.says.rstrip("."),
        source=_source(claim),
        measure=_measure(verdicts[0]),
        verdicts=[_verdict(verdict, study) for verdict in verdicts[:MOST_ROWS]],
        published=_published_values(study.published.get(name, [])),
    )


def _measure(verdict: Verdict) -> str:
    """Say what is measured, of which arms, and where the claim is true."""
    claim = verdict.claim
    along = f" along {axis_label(short_name(claim.over))}" if claim.over else ""
    place = f" at {named(claim.at)}" if claim.at else ""
    true = f"; true if that is {verdict.true}" if verdict.true else ""
    return f"{MEASURES[claim.measure].says}{along}{place}: {', '.join(map(named, claim.arms))}{true}"


def _published(study: Study) -> PrintedTable:
    """Return every number that claims refer to, and what others report on the same images."""
    header = ["published", "by", "setting", "how it was read", "measured", "comparison"]
    return _cut(header, [_published_row(item) for item in study.numbers], "harness/study/papers")


def _published_row(published: PublishedComparison) -> list[str]:
    number = published.number
    value = f"{number.value:g}" if number.published else "not read"
    measured = f"{published.measured.mean:.2f}" if published.measured.n else "–"
    read = f"{STATUSES[number.status]}{f'; {number.note}' if number.note else ''}"
    setting = ", ".join(filter(None, [described_setting(number), number.protocol]))
    return [value, papers()[number.paper].cite, setting, read, measured, published.summary]


def _unread(study: Study) -> list[str]:
    """Return the tables of the claims' papers that could not be read."""
    names = dict.fromkeys(claim.paper for claim in study.table.manifest.claims if claim.paper)
    return [f"{papers()[name].cite}: {what}" for name in names for what in papers()[name].unread]


def _pairing(study: Study) -> list[str]:
    """Say for each metric whether differences were taken seed by seed, and why."""
    sentences = []
    for metric, effect in study.judged.effects.items():
        if effect.p != effect.p:
            known = (
                "fewer than three seeds or two complete arms, so that it is not known whether seeds move arms together"
            )
        else:
            known = (f"over {effect.arms} arms the seeds' mean correlation is {effect.correlation:.2f} "
                     f"(Friedman's test: p = {effect.p:.2g})")  # fmt: skip
        how = "paired by seed" if effect.paired else "not paired (Welch's interval)"
        sentences.append(f"{METRIC_LABELS[metric]}: {known}; differences are {how}.")
    return sentences


def _diagnostics(table: ResultTable) -> PrintedTable:
    """Return means over seeds, after the last epoch; a dash for a loss without the quantity."""
    frame = table.frame
    names = [name for name in DIAGNOSTICS if name not in table.axes and frame[name].notna().any()]
    keys = [name for name in (*table.setting_axes, "batch_size", "loss") if frame[name].nunique() > 1]
    means = frame.groupby(keys or ["loss"], sort=False, as_index=False)[names].mean()
    rows = []
    for _, arm in means[means[names].notna().any(axis=1)].iterrows():
        labels = [value_label(key, arm[key]) for key in keys]
        rows.append([*labels, *("–" if pd.isna(arm[name]) else f"{arm[name]:.3g}" for name in names)])
    header = [*(axis_label(key) for key in keys), *(HEADERS[name] for name in names)]
    return _cut(header, rows, f"{table.manifest.name}.csv", len(keys))


def _collapsed(table: ResultTable) -> list[str]:
    """Return a sentence for each collapsed cell."""
    frame, sentences = table.frame, []
    names = [name for name in table.axes if frame[name].nunique() > 1]
    for cell in frame[frame["collapse"] != ""].to_dict("records"):
        place = setting_label({name: cell[name] for name in names})
        sentences.append(f"{cell['cell_id']}{f' ({place})' if place else ''}: {cell['collapse']}")
    left = len(sentences) - MOST_ROWS
    return [*sentences[:MOST_ROWS], *([f"and {left:,} more, in {table.manifest.name}.csv"] if left > 0 else [])]


def _confounds(frame: pd.DataFrame) -> PrintedTable:
    """Return what changes with the batch size besides the number of negatives."""
    header = ["batch size", "epochs", "steps", "peak learning rate", "images dropped per epoch"]
    columns = ["batch_size", "epochs", "steps", "peak_lr", "dropped"]
    done = frame.loc[frame["state"] == "finished", columns].drop_duplicates().sort_values(columns)
    rows = [[value if isinstance(value, str) else f"{value:.4g}" for value in row] for row in done.to_numpy().tolist()]
    return PrintedTable(header, rows)


def _run(table: ResultTable) -> list[tuple[str, str]]:
    """Return what a reader needs to know of the runs, each with its heading."""
    manifest, frame = table.manifest, table.frame
    done = frame[frame["state"] == "finished"]
    states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    threads = ", ".join(f"{value:g}" for value in sorted(done["threads"].unique()))
    revisions = ", ".join(
        f"{(revision or 'unknown')[:12]}{' with uncommitted changes' if dirty else ''}"
        for revision, dirty in done[["revision", "dirty"]].drop_duplicates().itertuples(index=False)
    )
    return [
        ("Cells", f"{states}; {len(frame)} declared."),
        ("Cost", f"{done['seconds'].sum() / 3600:.2f} hours of cells (views, training and evaluation)."),
        ("Energy", _energy(done)),
        ("Hardware", f"{', '.join(sorted(done['hardware'].unique())) or '–'}; threads per cell: {threads or '–'}."),
        ("Revision", f"{revisions or '–'}."),
        ("Data", f"{manifest.dataset}, fingerprint {manifest.own_dataset.fingerprint or '–'}."),
        ("Overrides", " ".join(manifest.overrides) or "None."),
    ]


def _energy(done: pd.DataFrame) -> str:
    joules = done["joules"].dropna()
    if joules.empty:
        return "Not readable on this hardware."
    return (
        f"{float(f'{joules.sum() / 3.6e6:.3g}'):,g} kWh by the counters of whole processor packages and GPUs, "
        f"of {len(joules)} of {count(len(done), 'cell')}; cells that run at the same time on one processor each count "
        f"all of its energy."
    )


def _appendix(table: ResultTable) -> PrintedTable:
    """Return a row for each cell, missing ones included."""
    frame = table.frame
    axes = [name for name in table.axes if frame[name].nunique() > 1]
    header = ["cell", *map(axis_label, axes), "state", *(name.replace("_", " ") for name in METRICS), "minutes"]
    rows = []
    for cell in frame.to_dict("records"):
        numbers = ["–" if pd.isna(cell[name]) else f"{cell[name]:.2f}" for name in METRICS]
        minutes = "–" if pd.isna(cell["seconds"]) else f"{cell['seconds'] / 60:.1f}"
        rows.append([cell["cell_id"], *(str(cell[name]) for name in axes), cell["state"], *numbers, minutes])
    return _cut(header, rows, f"{table.manifest.name}.csv")
