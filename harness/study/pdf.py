"""The report as a PDF that reads like a paper, typeset by typst; identical records give identical bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from harness.catalog import BACKBONES, LOSSES, loss_label
from harness.cell import short_name
from harness.manifest import Manifest
from harness.study.claims import Verdict
from harness.study.frame import METRICS, axis_columns, settings
from harness.study.statistics import Interval, signed
from harness.study.tables import arms, for_people

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
    shown = for_people(manifest, arms(manifest, frame))
    finished = int((frame["state"] == "finished").sum())
    return {
        "title": manifest.title,
        "name": manifest.name,
        "scale": manifest.scale,
        "dataset": manifest.dataset,
        "question": manifest.question,
        "answer": answer(verdicts),
        "caveat": _upper(manifest.caveat),
        "cells_line": f"{finished} of {len(frame)} cells",
        "panels": len(settings(manifest, frame)),
        "table": {"header": list(shown.columns), "rows": shown.to_numpy().tolist()},
        "verdicts": [_verdict(verdict, frame) for verdict in verdicts],
        "design": _design(manifest),
        "confounds": _confounds(frame),
        "run": _run(manifest, frame),
        "appendix": _appendix(manifest, frame),
    }


def answer(verdicts: list[Verdict]) -> str:
    """The first claim in a sentence or two, with its interval; in several settings, the count of each verdict."""
    if not verdicts:
        return "The experiment declares no claim."
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
    s, e = manifest.settings, manifest.evaluation
    axes = {short_name(path): values for path, values in manifest.axes.items()}
    fixed = {"temperature": s["loss"]["temperature"], "epochs": s["epochs"], "lr": s["optimizer"]["lr"]}
    values = {**{name: [value] for name, value in fixed.items()}, **axes}
    names = values.pop("loss", [s["loss"]["name"]])
    losses = ", ".join(loss_label(name) for name in names)
    seeds = ", ".join(map(str, values.pop("seed", [s["seed"]])))
    if "dclw" in names and "sigma" not in values:
        values["sigma"] = [s["loss"]["sigma"] or LOSSES["dclw"].parameters["sigma"].default]
    varied = "; ".join(f"{name.replace('_', ' ')} {', '.join(map(str, some))}" for name, some in values.items())
    views, optimizer = s["views"], s["optimizer"]
    return (
        f"SimCLR with {losses}; {varied}; seeds {seeds}. "
        f"Encoder: {BACKBONES[s['backbone']['name']].label}, width {s['backbone']['width']}; projector with "
        f"{s['head']['hidden']} hidden units and {s['head']['dim']} dimensions. Both views pass through the network "
        f"together. Views: crops of at least {views['crop_min']:.0%} of the area, flip {views['flip']:g}, colour "
        f"strength {views['jitter']:g}, grayscale {views['gray']:g}; cells that differ only in the loss see identical "
        f"views and start from identical weights. SGD with momentum {optimizer['momentum']:g}, weight decay "
        f"{optimizer['weight_decay']:g}, lr as declared at batch 256 ({optimizer['lr_rule']} rule), "
        f"{optimizer['warmup_epochs']:g} epochs of warm-up, then a cosine to zero; {s['precision']}. "
        f"{s['dataset']['validation']:.0%} of the training images are held out for the learning curve; the test "
        f"images are used once, after the last epoch (and for the untrained encoder). kNN: {e['knn_k']} neighbours, "
        f"weights exp(cosine / {e['knn_temperature']:g}). Linear probe: logistic regression on frozen, standardised "
        f"features, penalty {e['penalty']:g}."
    )


def _confounds(frame: pd.DataFrame) -> dict[str, list[Any]]:
    header = ["batch size", "epochs", "steps", "peak learning rate", "images dropped per epoch"]
    columns = ["batch_size", "epochs", "steps", "peak_lr", "dropped"]
    done = frame.loc[frame["state"] == "finished", columns].drop_duplicates().sort_values(columns)
    return {"header": header, "rows": [[f"{number:.4g}" for number in row] for row in done.to_numpy().tolist()]}


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


def _appendix(manifest: Manifest, frame: pd.DataFrame) -> dict[str, list[Any]]:
    axes = [name for name in axis_columns(manifest) if frame[name].nunique() > 1]
    header = ["cell", *(name.replace("_", " ") for name in axes), "state", *METRICS, "minutes"]
    header = [name.replace("_", " ") for name in header]
    rows = []
    for _, cell in frame.iterrows():
        numbers = ["–" if pd.isna(cell[name]) else f"{cell[name]:.2f}" for name in METRICS]
        minutes = "–" if pd.isna(cell["seconds"]) else f"{cell['seconds'] / 60:.1f}"
        rows.append([cell["cell_id"], *(str(cell[name]) for name in axes), cell["state"], *numbers, minutes])
    return {"header": header, "rows": rows}
