"""What a report prints of an experiment, as plain text and lists; ``report.typ`` sets it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.catalog.backbones import BACKBONES, STEMS
from harness.catalog.losses import LOSSES
from harness.catalog.methods import METHODS
from harness.catalog.parameters import filled
from harness.cell import short_name
from harness.datasets import DATASETS
from harness.diagnostics import DIAGNOSTICS
from harness.manifest import Claim, Manifest
from harness.study.claims.comparisons import named
from harness.study.claims.measures import MEASURES
from harness.study.claims.verdicts import ClaimResults, Verdict, judge
from harness.study.papers import comparison
from harness.study.papers.comparison import PublishedComparison
from harness.study.papers.published import STATUSES, described_setting, papers
from harness.study.report import abstract, limitations
from harness.study.report.evaluation_text import added, described
from harness.study.report.tables import for_people
from harness.study.table import METRICS, ResultTable
from harness.study.text import METRIC_WORDS, axis, count, in_unit, percent, shown, upper
from harness.study.text import setting as setting_words

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
#: A table has at most so many rows; a longer one ends with a note of where the whole of it is.
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
        return self.judged.verdicts

    @property
    def answer(self) -> str:
        return abstract.abstract(self.verdicts, self.table)

    @property
    def numbers(self) -> list[PublishedComparison]:
        """Every published number once."""
        every = [*itertools.chain(*self.published.values()), *self.same_images]
        return list({(one.number.paper, one.number.id): one for one in every}.values())

    def of_claim(self, name: str) -> list[Verdict]:
        """In every setting."""
        return [verdict for verdict in self.verdicts if verdict.claim.name == name]


def study(table: ResultTable) -> Study:
    """Judge the claims and find the published numbers."""
    return Study(table, judge(table), comparison.of_claims(table), comparison.of_same_images(table))


def content(study: Study) -> dict[str, Any]:
    """Everything that the template prints but the figures."""
    table, manifest, frame = study.table, study.table.manifest, study.table.frame
    arms = for_people(table)
    finished, along = int((frame["state"] == "finished").sum()), table.main_axis
    return {
        "title": manifest.title,
        "name": manifest.name,
        "scale": manifest.scale,
        "dataset": manifest.dataset + (f", evaluated on {DATASETS[manifest.on.name].label}" if manifest.on else ""),
        "question": manifest.question,
        "answer": study.answer,
        "caveat": upper(manifest.caveat),
        "cells_line": f"{finished} of {count(len(frame), 'cell')}",
        "panels": len(table.settings(along)) if along else 1,
        "heading": f"Accuracy against {axis(along)}" if along else "Accuracy",
        "table": _cut(list(arms.columns), arms.to_numpy().tolist(), f"{manifest.name}.table.csv"),
        "verdicts": _cut([], [_verdict(verdict, study) for verdict in study.verdicts], f"{manifest.name}.claims.json"),
        "pairing": _pairing(study),
        "claims": [_claim(name, study) for name in dict.fromkeys(claim.name for claim in manifest.claims)],
        "published": _published(study),
        "unread": _unread(study),
        "limitations": limitations.sentences(table, study.numbers),
        "design": _design(manifest),
        "diagnostics": _diagnostics(table),
        "collapsed": _collapsed(table),
        "confounds": _confounds(frame),
        "excluded": [f"{item.where} ({count(item.cells, 'cell')}): {item.reason}." for item in manifest.exclusions],
        "run": _run(table),
        "appendix": _appendix(table),
    }


def _cut(header: list[str], rows: Sequence[Any], file: str) -> dict[str, Any]:
    """The first rows of a table, and a ``note`` of where the others are."""
    note = f"The first {MOST_ROWS} of {len(rows):,} rows; all of them are in {file}." if len(rows) > MOST_ROWS else ""
    return {"header": header, "rows": rows[:MOST_ROWS], "note": note}


def verdict_rows(study: Study) -> list[dict[str, str]]:
    """Of the table of verdicts."""
    return [_verdict(verdict, study) for verdict in study.verdicts]


def _verdict(verdict: Verdict, study: Study) -> dict[str, str]:
    measured, beside = verdict.measured, study.published.get(verdict.claim.name, [])
    mean, bounds = in_unit(measured, verdict.unit)
    return {
        "name": verdict.claim.name,
        "says": verdict.claim.says,
        "source": _source(verdict.claim),
        "setting": setting_words(verdict.setting),
        "published": _side_by_side(beside),
        "measured": mean if measured.n else "–",
        "interval": f"{bounds} ({percent(verdict.level)})" if measured.n > 1 else "–",
        "seeds": str(measured.n) if measured.n else "–",
        "word": verdict.label,
        "why": upper(verdict.summary if verdict.reservation == study.table.manifest.caveat else verdict.why),
        "settle": verdict.next_step,
    }


def _source(claim: Claim) -> str:
    return f"{papers()[claim.paper].cite}, {claim.source}" if claim.paper else claim.source


def _side_by_side(beside: Sequence[PublishedComparison]) -> str:
    """``68.2, 61.8 †``: the dagger says that something differs from what was measured here."""
    values = ", ".join(f"{one.number.value:g}" for one in beside if one.number.published)
    return f"{values} †" if values and not all(one.comparable for one in beside) else values or "–"


def _claim(name: str, study: Study) -> dict[str, Any]:
    """A section of its own."""
    verdicts = study.of_claim(name)
    claim = verdicts[0].claim
    return {
        "name": name,
        "says": claim.says.rstrip("."),
        "source": _source(claim),
        "measure": _measure(verdicts[0]),
        "verdicts": [_verdict(verdict, study) for verdict in verdicts[:MOST_ROWS]],
        "published": _side_by_side(study.published.get(name, [])),
    }


def _measure(verdict: Verdict) -> str:
    """What is measured, and of what."""
    claim = verdict.claim
    along = f" along {axis(short_name(claim.over))}" if claim.over else ""
    place = f" at {named(claim.at)}" if claim.at else ""
    true = f"; true where that is {verdict.true}" if verdict.true else ""
    return f"{MEASURES[claim.measure].says}{along}{place}: {', '.join(map(named, claim.arms))}{true}"


def _published(study: Study) -> dict[str, Any]:
    """Every number that claims refer to, and what others report on the same images."""
    header = ["published", "by", "setting", "how it was read", "here", "comparison"]
    return _cut(header, [_beside(one) for one in study.numbers], "harness/study/papers")


def _beside(one: PublishedComparison) -> list[str]:
    number = one.number
    value = f"{number.value:g}" if number.published else "not read"
    measured = f"{one.measured.mean:.2f}" if one.measured.n else "–"
    read = f"{STATUSES[number.status]}{f'; {number.note}' if number.note else ''}"
    setting = ", ".join(filter(None, [described_setting(number), number.protocol]))
    return [value, papers()[number.paper].cite, setting, read, measured, one.said]


def _unread(study: Study) -> list[str]:
    """Tables of the claims' papers that could not be read."""
    names = dict.fromkeys(claim.paper for claim in study.table.manifest.claims if claim.paper)
    return [f"{papers()[name].cite}: {what}" for name in names for what in papers()[name].unread]


def _pairing(study: Study) -> list[str]:
    """How differences were taken, metric by metric."""
    said = []
    for metric, effect in study.judged.effects.items():
        if effect.p != effect.p:
            known = "fewer than three seeds or two complete arms, so that nothing is known of what seeds have in common"
        else:
            known = (f"over {effect.arms} arms the seeds' mean correlation is {effect.correlation:.2f} "
                     f"(Friedman's test: p = {effect.p:.2g})")  # fmt: skip
        how = "paired by seed" if effect.paired else "not paired (Welch's interval)"
        said.append(f"{METRIC_WORDS[metric]}: {known}; differences are {how}.")
    return said


def _design(manifest: Manifest) -> str:
    s = manifest.settings
    values = {"temperature": [s["loss"]["temperature"]], "epochs": [s["epochs"]], "steps": [s.get("steps")]}
    values |= {"lr": [s["optimizer"]["lr"]]}
    values |= {short_name(path): some for path, some in manifest.axes.items()}
    losses = [_named("loss", name, LOSSES, s["loss"], values) for name in values.pop("loss", [s["loss"]["name"]])]
    methods = [_named("method", name, METHODS, s["method"], values)
               for name in values.pop("method", [s["method"]["name"]])]  # fmt: skip
    seeds = ", ".join(map(str, values.pop("seed", [s["seed"]])))
    given = {name: [value for value in some if value is not None] for name, some in values.items()}
    varied = "; ".join(f"{axis(name)} {', '.join(map(str, some))}" for name, some in given.items() if some)
    backbone, head, views, optimizer = s["backbone"], s["head"], s["views"], s["optimizer"]
    stem = f" ({STEMS[backbone['stem']]})" if backbone["name"] != "convnet" else ""
    groups = f" Batch norm over {_given(s['bn_groups'])} groups." if s["bn_groups"] != 1 else ""
    blur = f", blur {views['blur']:g}" if views["blur"] else ""
    return (
        f"{', '.join(methods)} with {', '.join(losses)}; {varied}; seeds {seeds}. "
        f"Encoder: {BACKBONES[backbone['name']].label}{stem}, width {backbone['width']}; projector of {head['layers']} "
        f"layers, {head['hidden'] or head['dim']} hidden units and {head['dim']} dimensions.{groups} "
        f"Views: crops of at least {views['crop_min']:.0%} of the area, flip {views['flip']:g}, colour strength "
        f"{views['jitter']:g}, grayscale {views['gray']:g}{blur}; cells that differ only in the loss see identical "
        f"views and start from identical weights. {optimizer['name'].upper()} with momentum "
        f"{_given(optimizer['momentum'])}, weight decay {_given(optimizer['weight_decay'])}, lr as declared at batch "
        f"256 ({optimizer['lr_rule']} rule), "
        f"{_given(optimizer['warmup_epochs'])} epochs of warm-up, then a cosine to zero; {s['precision']}. "
        f"{s['dataset']['validation']:.0%} of the training images are held out for the learning curve; the test "
        f"images are used once, after the last epoch (and for the untrained encoder). "
        f"{described(manifest.evaluation)}{added(manifest)}"
    )


def _given(value: float | None) -> str:
    return "derived" if value is None else f"{value:g}"


def _named(
    axis: str, name: str, entries: Mapping[str, Any], declared: Mapping[str, Any], axes: Mapping[str, Any]
) -> str:
    """A loss or method with the parameters that are on no axis: ``DCLW (sigma 0.5, detach weights true)``."""
    if name not in entries:
        return name
    known = entries[name].parameters
    given = {**filled({**declared, "name": name}, known)}
    fixed = {key: given[key] for key in known if key in given and key not in axes}
    text = ", ".join(f"{key.replace('_', ' ')} {str(value).lower()}" for key, value in fixed.items())
    return shown(axis, name) + (f" ({text})" if text else "")


def _diagnostics(table: ResultTable) -> dict[str, Any]:
    """Means over seeds, after the last epoch; a dash for a loss without the quantity. ``labels``: columns of names."""
    frame = table.frame
    names = [name for name in DIAGNOSTICS if name not in table.axes and frame[name].notna().any()]
    keys = [name for name in (*table.setting_axes, "batch_size", "loss") if frame[name].nunique() > 1]
    means = frame.groupby(keys or ["loss"], sort=False, as_index=False)[names].mean()
    rows = []
    for _, arm in means[means[names].notna().any(axis=1)].iterrows():
        labels = [shown(key, arm[key]) for key in keys]
        rows.append([*labels, *("–" if pd.isna(arm[name]) else f"{arm[name]:.3g}" for name in names)])
    header = [*(axis(key) for key in keys), *(HEADERS[name] for name in names)]
    return {**_cut(header, rows, f"{table.manifest.name}.csv"), "labels": len(keys)}


def _collapsed(table: ResultTable) -> list[str]:
    """Return a sentence for each collapsed cell."""
    frame, found = table.frame, []
    names = [name for name in table.axes if frame[name].nunique() > 1]
    for cell in frame[frame["collapse"] != ""].to_dict("records"):
        place = setting_words({name: cell[name] for name in names})
        found.append(f"{cell['cell_id']}{f' ({place})' if place else ''}: {cell['collapse']}")
    left = len(found) - MOST_ROWS
    return [*found[:MOST_ROWS], *([f"and {left:,} more, in {table.manifest.name}.csv"] if left > 0 else [])]


def _confounds(frame: pd.DataFrame) -> dict[str, list[Any]]:
    header = ["batch size", "epochs", "steps", "peak learning rate", "images dropped per epoch"]
    columns = ["batch_size", "epochs", "steps", "peak_lr", "dropped"]
    done = frame.loc[frame["state"] == "finished", columns].drop_duplicates().sort_values(columns)
    rows = [[one if isinstance(one, str) else f"{one:.4g}" for one in row] for row in done.to_numpy().tolist()]
    return {"header": header, "rows": rows}


def _run(table: ResultTable) -> list[list[str]]:
    manifest, frame = table.manifest, table.frame
    done = frame[frame["state"] == "finished"]
    states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    threads = ", ".join(f"{value:g}" for value in sorted(done["threads"].unique()))
    revisions = ", ".join(
        f"{(revision or 'unknown')[:12]}{' with uncommitted changes' if dirty else ''}"
        for revision, dirty in done[["revision", "dirty"]].drop_duplicates().itertuples(index=False)
    )
    joules = done["joules"].dropna()
    energy = (
        f"{float(f'{joules.sum() / 3.6e6:.3g}'):,g} kWh by the counters of whole processor packages and GPUs, "
        f"of {len(joules)} of {count(len(done), 'cell')}; cells side by side on one processor are counted in each."
    )
    return [
        ["Cells", f"{states}; {len(frame)} declared."],
        ["Cost", f"{done['seconds'].sum() / 3600:.2f} hours of cells (views, training and evaluation)."],
        ["Energy", energy if len(joules) else "not readable on this hardware."],
        ["Hardware", f"{', '.join(sorted(done['hardware'].unique())) or '–'}; threads a cell: {threads or '–'}."],
        ["Revision", f"{revisions or '–'}."],
        ["Data", f"{manifest.dataset}, fingerprint {manifest.settings['dataset'].get('fingerprint', '–')}."],
        ["Overrides", " ".join(manifest.overrides) or "none."],
    ]


def _appendix(table: ResultTable) -> dict[str, Any]:
    frame = table.frame
    axes = [name for name in table.axes if frame[name].nunique() > 1]
    header = ["cell", *map(axis, axes), "state", *(name.replace("_", " ") for name in METRICS), "minutes"]
    rows = []
    for cell in frame.to_dict("records"):
        numbers = ["–" if pd.isna(cell[name]) else f"{cell[name]:.2f}" for name in METRICS]
        minutes = "–" if pd.isna(cell["seconds"]) else f"{cell['seconds'] / 60:.1f}"
        rows.append([cell["cell_id"], *(str(cell[name]) for name in axes), cell["state"], *numbers, minutes])
    return _cut(header, rows, f"{table.manifest.name}.csv")
