"""The report as a PDF that reads like a paper, typeset by typst; identical records give identical bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from harness.catalog import BACKBONES, DATASETS, LOSSES, METHODS, STEMS, filled, loss_label
from harness.cell import short_name
from harness.collapse import DIAGNOSTICS
from harness.manifest import Manifest
from harness.study.claims import Verdict
from harness.study.frame import METRICS, axis_columns, setting_columns, settings
from harness.study.protocol import added, described
from harness.study.statistics import Interval, signed
from harness.study.tables import arms, for_people, shown

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
TEMPLATE = Path(__file__).with_name("report.typ")


def write_pdf(manifest: Manifest, frame: pd.DataFrame, verdicts: list[Verdict], figure: Path, path: Path) -> None:
    """Typeset the report; ``figure`` is the SVG of accuracy against batch size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiled = typst.compile(  # type: ignore[call-overload]  # its stub lacks the form with several files
        {"main.typ": TEMPLATE.read_bytes(), "figure.svg": figure.read_bytes()},
        sys_inputs={"data": json.dumps(content(manifest, frame, verdicts))},
        format="pdf",
        ignore_system_fonts=True,
    )
    path.write_bytes(compiled)


def content(manifest: Manifest, frame: pd.DataFrame, verdicts: list[Verdict]) -> dict[str, Any]:
    """Everything that the template prints, as plain text and lists."""
    table = for_people(manifest, arms(manifest, frame))
    finished = int((frame["state"] == "finished").sum())
    return {
        "title": manifest.title,
        "name": manifest.name,
        "scale": manifest.scale,
        "dataset": manifest.dataset + (f", evaluated on {DATASETS[manifest.on.name].label}" if manifest.on else ""),
        "question": manifest.question,
        "answer": abstract(verdicts, frame),
        "caveat": _upper(manifest.caveat),
        "cells_line": f"{finished} of {len(frame)} cell{'' if len(frame) == 1 else 's'}",
        "panels": len(settings(manifest, frame)) if frame["batch_size"].nunique() > 1 else 1,
        "heading": "Accuracy against batch size" if frame["batch_size"].nunique() > 1 else "Accuracy",
        "table": _cut(list(table.columns), table.to_numpy().tolist(), f"{manifest.name}.table.csv"),
        "verdicts": [_verdict(verdict, frame) for verdict in verdicts],
        "design": _design(manifest),
        "diagnostics": _diagnostics(manifest, frame),
        "collapsed": _collapsed(manifest, frame),
        "confounds": _confounds(frame),
        "excluded": [
            f"{item.where} ({item.cells} cell{'' if item.cells == 1 else 's'}): {item.reason}."
            for item in manifest.exclusions
        ],
        "run": _run(manifest, frame),
        "appendix": _appendix(manifest, frame),
    }


def _cut(header: list[str], rows: Sequence[Any], file: str) -> dict[str, Any]:
    """The first rows of a table, and a ``note`` of where the others are."""
    note = f"The first {MOST_ROWS} of {len(rows):,} rows; all of them are in {file}." if len(rows) > MOST_ROWS else ""
    return {"header": header, "rows": rows[:MOST_ROWS], "note": note}


def abstract(verdicts: list[Verdict], frame: pd.DataFrame) -> str:
    """The answer to the first claim; without claims, how many encoders learned."""
    if verdicts:
        return answer(verdicts)
    done = frame[frame["test_knn"].notna()]
    better, collapsed = int((done["test_knn"] > done["init_knn"]).sum()), int((done["collapse"] != "").sum())
    return f"{better} of {len(done)} trained encoders beat their own initialisation; {collapsed} collapsed."


def answer(verdicts: list[Verdict]) -> str:
    """The first claim in a sentence or two, with its interval; in several settings, the count of each verdict."""
    first = verdicts[0]
    settings = [verdict for verdict in verdicts if verdict.claim == first.claim]
    if len(settings) > 1:
        counts = Counter(verdict.word for verdict in settings)
        said = ", ".join(f"{word} in {count}" for word, count in counts.items())
        return f"Of {len(settings)} settings, the claim that {_lower(first.claim.says)} is {said}."
    lead = {
        "REPRODUCED": "Yes, as measured here",
        "CONTRADICTED": "No, the opposite was measured",
        "INCONCLUSIVE": "These runs do not decide it",
        "INCOMPLETE": "Not yet",
        "NOT COMPARABLE": "This scale cannot tell",
    }[first.word]
    if first.measured.n < 2:
        return f"{lead}: {first.said}."
    name, other = loss_label(first.claim.loss), loss_label(first.claim.baseline)
    interval = f"{signed(first.measured.mean)} points, 95 % interval {bounds(first.measured)}, {first.measured.n} seeds"
    return f"{lead}. {_upper(first.said)}; the difference in favour of {name} over {other} is {interval}."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return (text if text[:2].isupper() else text[:1].lower() + text[1:]).rstrip(".")


def bounds(interval: Interval) -> str:
    """``[-0.50, +1.20]``, with a real minus sign."""
    return f"[{signed(interval.low)}, {signed(interval.high)}]"


def _verdict(verdict: Verdict, frame: pd.DataFrame) -> dict[str, str]:
    measured = verdict.measured
    number = f"{signed(measured.mean)} " if measured.n else "–"
    varying = {name: value for name, value in verdict.setting.items() if frame[name].nunique() > 1}
    return {
        "name": verdict.claim.name,
        "says": verdict.claim.says,
        "source": verdict.claim.source,
        "setting": ", ".join(f"{name} {value}" for name, value in varying.items()),
        "measured": number + (bounds(measured) if measured.n > 1 else ""),
        "seeds": str(measured.n),
        "word": verdict.word,
        "why": verdict.why,
    }


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
    varied = "; ".join(f"{name.replace('_', ' ')} {', '.join(map(str, some))}" for name, some in given.items() if some)
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


def _diagnostics(manifest: Manifest, frame: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds, after the last epoch; a dash for a loss without the quantity. ``labels``: columns of names."""
    names = [name for name in DIAGNOSTICS if frame[name].notna().any()]
    keys = [name for name in (*setting_columns(manifest), "batch_size", "loss") if frame[name].nunique() > 1]
    means = frame.groupby(keys or ["loss"], sort=False, as_index=False)[names].mean()
    rows = []
    for _, arm in means[means[names].notna().any(axis=1)].iterrows():
        labels = [shown(key, arm[key]) for key in keys]
        rows.append([*labels, *("–" if pd.isna(arm[name]) else f"{arm[name]:.3g}" for name in names)])
    header = [*(key.replace("_", " ") for key in keys), *(HEADERS[name] for name in names)]
    return {**_cut(header, rows, f"{manifest.name}.csv"), "labels": len(keys)}


def _collapsed(manifest: Manifest, frame: pd.DataFrame) -> list[str]:
    """A sentence a collapsed cell."""
    names = [name for name in axis_columns(manifest) if frame[name].nunique() > 1]
    found = []
    for cell in frame[frame["collapse"] != ""].to_dict("records"):
        place = ", ".join(f"{name.replace('_', ' ')} {cell[name]}" for name in names)
        found.append(f"{cell['cell_id']}{f' ({place})' if place else ''}: {cell['collapse']}")
    left = len(found) - MOST_ROWS
    return [*found[:MOST_ROWS], *([f"and {left:,} more, in {manifest.name}.csv"] if left > 0 else [])]


def _confounds(frame: pd.DataFrame) -> dict[str, list[Any]]:
    header = ["batch size", "epochs", "steps", "peak learning rate", "images dropped per epoch"]
    columns = ["batch_size", "epochs", "steps", "peak_lr", "dropped"]
    done = frame.loc[frame["state"] == "finished", columns].drop_duplicates().sort_values(columns)
    rows = [[one if isinstance(one, str) else f"{one:.4g}" for one in row] for row in done.to_numpy().tolist()]
    return {"header": header, "rows": rows}


def _run(manifest: Manifest, frame: pd.DataFrame) -> list[list[str]]:
    done = frame[frame["state"] == "finished"]
    states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    threads = ", ".join(f"{value:g}" for value in sorted(done["threads"].unique()))
    revisions = ", ".join(
        f"{(revision or 'unknown')[:12]}{' with uncommitted changes' if dirty else ''}"
        for revision, dirty in done[["revision", "dirty"]].drop_duplicates().itertuples(index=False)
    )
    return [
        ["Cells", f"{states}; {len(frame)} declared."],
        ["Cost", f"{done['seconds'].sum() / 3600:.2f} hours of cells (views, training and evaluation)."],
        ["Hardware", f"{', '.join(sorted(done['hardware'].unique())) or '–'}; threads a cell: {threads or '–'}."],
        ["Revision", f"{revisions or '–'}."],
        ["Data", f"{manifest.dataset}, fingerprint {manifest.settings['dataset'].get('fingerprint', '–')}."],
        ["Overrides", " ".join(manifest.overrides) or "none."],
    ]


def _appendix(manifest: Manifest, frame: pd.DataFrame) -> dict[str, Any]:
    axes = [name for name in axis_columns(manifest) if frame[name].nunique() > 1]
    header = ["cell", *(name.replace("_", " ") for name in axes), "state", *METRICS, "minutes"]
    header = [name.replace("_", " ") for name in header]
    rows = []
    for cell in frame.to_dict("records"):
        numbers = ["–" if pd.isna(cell[name]) else f"{cell[name]:.2f}" for name in METRICS]
        minutes = "–" if pd.isna(cell["seconds"]) else f"{cell['seconds'] / 60:.1f}"
        rows.append([cell["cell_id"], *(str(cell[name]) for name in axes), cell["state"], *numbers, minutes])
    return _cut(header, rows, f"{manifest.name}.csv")
