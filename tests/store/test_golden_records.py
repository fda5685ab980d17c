"""Records that were written before harness's packages were rearranged are read as they were then.

``results/`` was written by the code of that time, which also wrote what it reads in it: ``expected.json``; and
``cell_ids.json`` holds identities as it computed them. ``README.md`` says what is there and how it was made.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import harness
from harness.catalog.losses import LOSSES
from harness.cell import Cell, Dataset, canonical_json, from_dict, paths, short_name, versionless_id
from harness.cli.shared.experiment_status import experiments
from harness.datasets import DATASETS, DatasetFiles, FixedDataset, find
from harness.environment.job import SchedulerJob
from harness.environment.process import ProcessIdentity
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.files import read_json, write_json
from harness.manifest import Manifest
from harness.plugins import register
from harness.ssl import checkpoint, encoder_file
from harness.store.index import Conditions, Index
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Attempt, Busy, Record
from harness.store.submission import Submission
from harness.store.sweeps.job_arrays import JobArrays
from harness.store.sweeps.ledger import Ledger
from harness.study.claims.verdict_json import as_json
from harness.study.claims.verdicts import judge
from harness.study.frame import tidy, write_csv
from harness.sweep.declare import evaluation_presets
from harness.sweep.declare.compose import declare
from harness.sweep.expand import grid
from harness.trees import leaves

FOLDER = Path(__file__).with_name("golden_records")
PROJECT = Path(harness.__file__).parents[1]
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
IDENTITIES: dict[str, Any] = json.loads((FOLDER / "cell_ids.json").read_text(encoding="utf-8"))

DAY = 86_400.0
#: A key of submissions that only the worker of tests read.
ACTS = "acts"
#: A heartbeat this old has stopped.
SILENT = 600.0
#: The evaluations of the records in ``results/``: the first came with training, the second was added.
PRESETS = ("solo_learn", "dkobak")
#: The experiment that has a report.
TINY = "tiny.demo"

#: The fields of cells that came later; that they leave a cell's identity alone is tested with every identity.
LATER_FIELDS = paths(Cell).keys() - leaves(IDENTITIES["base"]).keys()

Json = dict[str, Any]


# A results folder as it was when it was left.


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose files are as old as they were: git keeps neither times nor empty folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copied = tmp_path / "results"
    shutil.copytree(FOLDER / "results", copied)
    for name in EXPECTED["empty_folders"]:
        (copied / name).mkdir(parents=True, exist_ok=True)
    for path in [*copied.rglob("*"), copied]:
        set_age(path, DAY)
    for name, seconds in EXPECTED["ages"].items():
        set_age(copied / name, seconds)
    return copied


@pytest.fixture
def own_losses() -> Iterator[Path]:
    """The losses of a user's own that some of the records were trained with; the catalogue forgets them afterwards."""
    before = dict(LOSSES)
    path = FOLDER / "experiments" / "own_losses.py"
    register([path])
    yield path
    LOSSES.clear()
    LOSSES.update(before)


def set_age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def record_of(results: Path, what: str) -> Record:
    """The record that is there for this: ``what`` is in README.md's list."""
    (cell_id,) = (cell_id for cell_id, said in EXPECTED["records"].items() if said["what"] == what)
    return Record(results / "runs" / cell_id)


# What the code says of it, as plain data; what stands in a file of its own is compared with that file.


def plain(data: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(data))


def content_of(path: Path) -> Any:
    """What a JSON file holds, read without harness; None where there is none, or nothing in it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return json.loads(text) if text else None


def whole_lines_of(path: Path) -> list[Json]:
    """Of a file with an object a line, whose last line a kill may have torn."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def holds(read: Submission | Outcome | None, content: Json | None) -> bool:
    """Whether all that the file says is in the object that was read, under the key that it has in the file."""
    if read is None or content is None:
        return read is content
    known = {key: value for key, value in content.items() if key != ACTS}
    return bool(restricted(read.to_json(), known) == known)


def restricted(written: Any, content: Any) -> Any:
    """What was read of a file, without the keys that came later than the file."""
    if isinstance(written, dict) and isinstance(content, dict):
        return {key: restricted(written.get(key), value) for key, value in content.items()}
    return written


def of_job(job: str, task: str, restart: int) -> Provenance:
    """The provenance of an attempt that a scheduler's job began."""
    return Provenance(environment=ComputeEnvironment(scheduler=SchedulerJob(job, task, restart)))


def what_a_record_says(record: Record, index: Index) -> Json:
    try:
        cell = record.cell()
    except UserError:
        cell = None
    outcome, encoder = record.outcome(), record.encoder()
    metrics = {name: record.metrics(evaluation_presets.load(name)) for name in PRESETS} if cell else None
    return {
        "cell": of_known_fields(cell) if cell else None,
        "cell_id": cell.cell_id if cell else None,
        "kin": versionless_id(cell) if cell else None,
        "state": record.state(),
        "published": outcome.attempt if outcome else None,
        "encoder": str(encoder.relative_to(record.path)) if encoder else None,
        "metrics": metrics if outcome else None,
        "steps": [event.step for event in record.events()],
        "attempts": [what_an_attempt_says(attempt) for attempt in record.attempts()],
        "index": what_an_index_says(index, record.cell_id),
    }


def of_known_fields(cell: Cell) -> Json:
    """A cell as plain data, without the fields that came later."""
    content: Json = asdict(cell)
    for path in LATER_FIELDS:
        *groups, name = path.split(".")
        node = content
        for group in groups:
            node = node[group]
        del node[name]
    return content


def what_an_attempt_says(attempt: Attempt) -> Json:
    outcome, content = attempt.outcome(), content_of(attempt.path / "outcome.json")
    return {
        "number": attempt.number,
        "holder": attempt.holder(),
        "outcome": restricted(outcome.to_json(), content) if outcome else None,
        "stop": attempt.stop_requested(),
        "superseded": attempt.superseded(),
        "alive": attempt.alive(),
        "events": len(list(attempt.events())),
    }


def what_an_index_says(index: Index, cell_id: str) -> Json:
    summary, status = index[cell_id], index.job_status(cell_id)
    submission = summary.submission.to_json() if summary.submission else {}
    known, ran = EXPECTED["records"][cell_id]["index"]["ran"], vars(summary.conditions)
    return {
        "state": summary.state,
        "attempts": summary.attempts,
        "attempt": summary.attempt,
        "ends": summary.ends,
        "intent": {key: submission[key] for key in ("sweep", "attempts_before", "withdrawn") if key in submission},
        "curve": summary.curve,
        "ran": {name: value for name, value in ran.items() if name in known or value != vars(Conditions())[name]},
        "cause": summary.cause,
        "error": summary.error,
        "collapse": summary.collapse,
        "said": [status.state, status.why, status.over] if status else None,
        "task_id": index.task_id(cell_id),
    }


def what_a_sweep_says(ledger: Ledger) -> Json:
    batches = JobArrays(ledger.path)
    return {
        "policy": ledger.policy().to_json(),
        "alive": ledger.alive(),
        "failures": [{**asdict(failure), "kind": failure.kind} for failure in ledger.failures()],
        "refusal": ledger.stop_reason(),
        "through_a_scheduler": batches.exists,
        "tasks": [[batch.task_id(number) for number in range(len(batch.tasks))] for batch in batches.all],
        "over": sorted(task for task, said in batches.queue.statuses.items() if said.over),
        "open_cells": sorted(batches.open_cells()),
    }


def what_a_manifest_says(manifest: Manifest) -> Json:
    return {
        "cells": len(manifest.cells),
        "varying": manifest.varying,
        "dataset": asdict(manifest.own_dataset),
        "exclusions": [asdict(exclusion) for exclusion in manifest.exclusions],
        "coinciding": manifest.coinciding,
        "claims": [asdict(claim) for claim in manifest.claims],
    }


def what_status_says(results: Path) -> list[Json]:
    """What ``harness status --json`` prints, whatever the folder is called; without what is null."""
    printed = json.dumps([asdict(item) for item in experiments([], results, Index(results / "runs"))])
    said: list[Json] = json.loads(printed.replace(str(results), "results"))
    later = {short_name(path) for path in LATER_FIELDS}
    for experiment in said:
        cells = experiment.get("cells", [])
        for item in [*cells, *experiment.get("sweeps", [])]:
            del item["damaged"], item["silence"]  # keys of later versions
        for cell in cells:
            (cell["progress"] or {}).pop("waits", None)
            words = cell["name"].split(" ")  # a cell whose file is damaged is called by all fields, without values
            cell["name"] = " ".join(word for word in words if word.partition("=")[0] not in later)
        cells[:] = [{name: value for name, value in cell.items() if value is not None} for cell in cells]
    return said


def states(results: Path) -> dict[str, list[str]]:
    """By the record alone, and by the index, which knows of sweeps."""
    index = Index(results / "runs")
    return {cell_id: [Record(results / "runs" / cell_id).state(), index[cell_id].state] for cell_id in index.cell_ids()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def with_changes(base: Json, changes: Mapping[str, Any]) -> Json:
    """A cell as plain data, from another one and the dotted fields in which it differs."""
    changed = copy.deepcopy(base)
    for path, value in changes.items():
        *groups, name = path.split(".")
        node = changed
        for group in groups:
            node = node[group]
        node[name] = value
    return changed


def rounded(node: Any) -> Any:
    """Numbers to six digits: another version of a library has other last ones."""
    if isinstance(node, dict):
        return {name: rounded(value) for name, value in node.items()}
    if isinstance(node, list):
        return [rounded(value) for value in node]
    return float(f"{node:.6g}") if isinstance(node, float) else node


# Records.


def test_the_folder_is_as_it_was_left() -> None:
    """Whatever fails below: nobody has changed what is read."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (FOLDER / "results").rglob("*") if path.is_file()):
        digest.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    assert digest.hexdigest() == EXPECTED["digest_of_results"]


def test_every_record_says_what_it_said(results: Path) -> None:
    index = Index(results / "runs")
    assert index.cell_ids() == sorted(EXPECTED["records"])
    for cell_id, said in EXPECTED["records"].items():
        expected = {name: value for name, value in said.items() if name != "what"}
        if said["cell"] is not None:
            expected["cell"] = with_changes(IDENTITIES["base"], said["cell"])
        assert plain(what_a_record_says(Record(results / "runs" / cell_id), index)) == expected, said["what"]


def test_every_file_of_a_record_is_read(results: Path) -> None:
    for cell_id, said in EXPECTED["records"].items():
        record, folder = Record(results / "runs" / cell_id), results / "runs" / cell_id
        assert holds(record.submission(), content_of(folder / "submission.json")), said["what"]
        assert holds(record.outcome(), content_of(folder / "outcome.json")), said["what"]
        for path in folder.glob("evaluations/*.json"):
            assert record.added_evaluation(path.stem) == content_of(path), said["what"]
        for attempt in record.attempts():
            own = folder / "attempts" / str(attempt.number)
            assert attempt.path == own
            assert attempt.provenance() == Provenance.from_json(content_of(own / "provenance.json") or {}), said["what"]
            assert holds(attempt.outcome(), content_of(own / "outcome.json")), said["what"]
            progress = attempt.progress()
            written = content_of(own / "heartbeat")
            assert (vars(progress) if progress else {}) == ({**written, "waits": 0.0} if written else {}), said["what"]
            assert [event.to_json() for event in attempt.events()] == whole_lines_of(own / "events.jsonl"), said["what"]


def test_an_error_of_another_rank_is_the_attempts_error(results: Path) -> None:
    (attempt,) = record_of(results, "failed, with the note of its second rank").attempts()
    note = content_of(attempt.path / "rank-error.json")
    assert attempt.outcome() == Outcome("failed", attempt=1, **note)


def test_an_evaluation_on_other_images_is_found(results: Path) -> None:
    record = record_of(results, "finished on other images, and evaluated on yet others")
    (added,) = (content_of(path) for path in record.path.glob("evaluations/*.json"))
    on = from_dict(Dataset, added["dataset"])
    assert on != record.cell().dataset
    settings = Evaluation.from_json(added["settings"])
    assert record.metrics(settings, on) == added["metrics"]
    assert Index(results / "runs").metrics(record.cell_id, settings, on) == added["metrics"]


def test_every_state_is_there(results: Path) -> None:
    found = states(results)
    assert {state for state, _ in found.values()} == {"missing", "running", "finished", "failed"}
    assert {state for _, state in found.values()} == {"missing", "queued", "running", "finished", "failed"}
    declared = [cell for experiment in what_status_says(results) for cell in experiment.get("cells", [])]
    assert "stale" in {cell["state"] for cell in declared}


def test_an_index_that_remembers_says_the_same(results: Path) -> None:
    first = Index(results / "runs")
    before = [first[cell_id] for cell_id in first.cell_ids()]
    first.remember()
    second = Index(results / "runs")
    assert [second[cell_id] for cell_id in second.cell_ids()] == before


def test_what_was_running_or_queued_here_is_missing_once_nothing_beats(results: Path) -> None:
    for name in EXPECTED["ages"]:
        set_age(results / name, SILENT)
    assert states(results) == EXPECTED["states_once_silent"]


def test_what_ran_on_this_machine_is_missing_once_its_process_is_gone(results: Path) -> None:
    """However fresh its heartbeat."""
    record = record_of(results, "running")
    attempt = record.attempts()[-1]
    before, identity = read_json(attempt.provenance_file) or {}, vars(ProcessIdentity.current())
    write_json(attempt.provenance_file, {**before, **identity, "pid_started": "0"})
    assert record.state() == "missing"


def test_a_running_cell_is_held_and_a_dead_one_is_taken_over(results: Path) -> None:
    with pytest.raises(Busy, match=r"is running: attempt 1, process \d+ on laptop"):
        record_of(results, "running").begin()
    lost = record_of(results, "killed with its sweep, in the middle of a line")
    assert lost.begin().number == 2
    assert [event.step for event in lost.events()] == EXPECTED["records"][lost.cell_id]["steps"]


def test_a_job_that_is_started_again_takes_its_cell_over_at_once(results: Path) -> None:
    record = record_of(results, "running in a job")
    job = content_of(record.attempts()[-1].path / "provenance.json")["scheduler"]
    with pytest.raises(Busy):
        record.begin(of_job(**job))
    assert record.begin(of_job(**{**job, "restart": job["restart"] + 1})).number == 2


def test_an_attempt_that_was_killed_before_its_publication_is_published(results: Path) -> None:
    record = record_of(results, "finished and killed before its publication")
    assert (record.state(), record.outcome()) == ("missing", None)
    with pytest.raises(Busy, match="already finished"):
        record.begin()
    assert record.outcome() == record.attempts()[-1].outcome()
    assert record.state() == "finished"


def test_a_cancelled_cell_may_be_submitted_again(results: Path) -> None:
    record = record_of(results, "withdrawn before it began")
    submission = record.submission()
    assert submission
    assert submission.withdrawn
    record.submit(replace(submission, sweep="live.demo.1"))
    assert Index(results / "runs")[record.cell_id].state == "queued"


def test_a_kept_encoder_is_read(results: Path) -> None:
    record = record_of(results, EXPECTED["encoder"]["what"])
    path = record.encoder()
    assert path
    kept = encoder_file.load(path)
    weights = kept.encoder.state_dict()
    assert plain(asdict(kept.backbone)) == EXPECTED["encoder"]["backbone"]
    assert [kept.mean.tolist(), kept.std.tolist()] == EXPECTED["encoder"]["mean_and_std"]
    assert {name: list(value.shape) for name, value in weights.items()} == EXPECTED["encoder"]["shapes"]
    assert sum(float(value.double().sum()) for value in weights.values()) == pytest.approx(EXPECTED["encoder"]["sum"])


def test_a_checkpoint_is_read(results: Path) -> None:
    record = record_of(results, EXPECTED["checkpoint"]["what"])
    state = checkpoint.load_latest(record, torch.device("cpu")).state
    assert state
    assert checkpoint.newest_checkpoint(record) == f"{record.path}/{EXPECTED['checkpoint']['file']}"
    assert sorted(state) == EXPECTED["checkpoint"]["names"]
    assert plain({name: state[name] for name in ("step", "results", "evaluation")}) == EXPECTED["checkpoint"]["values"]
    assert {name: list(value.shape) for name, value in state["method"].items()} == EXPECTED["checkpoint"]["shapes"]


# Sweeps, manifests, reports.


def test_every_sweep_says_what_it_said(results: Path) -> None:
    found = {path.name for path in (results / "sweeps").iterdir() if path.name != "submitting"}
    assert found == set(EXPECTED["sweeps"])
    for name, expected in EXPECTED["sweeps"].items():
        assert plain(what_a_sweep_says(Ledger(results / "sweeps" / name))) == expected, name


def test_every_file_of_a_sweep_is_read(results: Path) -> None:
    for name in EXPECTED["sweeps"]:
        folder = results / "sweeps" / name
        ledger, batches = Ledger(folder), JobArrays(folder)
        assert ledger.facts() == content_of(folder / "sweep.json"), name
        assert plain([asdict(batch) for batch in batches.all]) == [
            content_of(path) for path in sorted(folder.glob("batches/*.json"))
        ], name
        queue = content_of(folder / "queue.json") or {"asked": 0.0, "pause": 0.0, "said": {}, "settled": False}
        said = {task: [one.state, one.why] for task, one in batches.queue.statuses.items()}
        assert {**{key: vars(batches.queue)[key] for key in ("asked", "pause", "settled")}, "said": said} == queue, name
        if ledger.manifest.exists():
            assert Manifest.load(ledger.manifest).name == name.rpartition(".")[0]


def test_every_manifest_is_read(results: Path) -> None:
    found, damaged = Manifest.all_of(results)
    assert list(damaged) == EXPECTED["damaged_manifests"]
    assert {manifest.name: plain(what_a_manifest_says(manifest)) for manifest in found} == EXPECTED["manifests"]
    added_later: Json = {"preset": "", "on": None, "exclusions": [], "coinciding": 0}
    for manifest in found:
        content = {**added_later, **content_of(Manifest.file(results, manifest.name))}
        content["cells"] = [{"kin": "", **cell} for cell in content["cells"]]
        written = {**asdict(manifest), "cells": [cell.to_json() for cell in manifest.cells]}
        assert plain(written) == content, manifest.name


def test_status_prints_what_it_printed(results: Path) -> None:
    assert what_status_says(results) == EXPECTED["status"]


@pytest.mark.parametrize("preset", ["", "dkobak"])
def test_a_report_has_the_rows_that_it_had(results: Path, preset: str) -> None:
    manifest = Manifest.read(results, TINY)
    if preset:
        manifest = manifest.evaluated(preset, evaluation_presets.load(preset), None)
    written = results / f"{manifest.name}.csv"
    before = rows(written)
    assert [row["state"] for row in before] == EXPECTED["reports"][manifest.name]
    written.unlink()
    write_csv(tidy(manifest, results), written)
    assert rows(written) == before


def test_its_claims_are_judged_as_they_were(results: Path) -> None:
    """What a report has written is what ``harness verify --json`` prints."""
    manifest = Manifest.read(results, TINY)
    judged = plain(as_json(judge(tidy(manifest, results))))
    assert rounded(judged) == rounded(content_of(results / f"{TINY}.claims.json"))
    assert [verdict["verdict"] for verdict in judged["verdicts"]] == EXPECTED["verdicts"]


# Identities.


@pytest.mark.parametrize("name", IDENTITIES["cells"])
def test_a_cell_has_the_identity_that_it_had(name: str) -> None:
    known = IDENTITIES["cells"][name]
    cell = from_dict(Cell, with_changes(IDENTITIES["base"], known["changes"]))
    assert canonical_json(cell) == known["canonical_json"]
    assert (cell.cell_id, versionless_id(cell)) == (known["cell_id"], known["kin"])


def files_of(dataset: str) -> DatasetFiles:
    """As large as the data set is, which need not be here."""
    entry, fingerprint = DATASETS[dataset], IDENTITIES["fingerprints"][dataset]
    fingerprint = IDENTITIES["digits_fingerprint"] if dataset == "digits" else fingerprint
    if not isinstance(entry, FixedDataset):
        return DatasetFiles("", fingerprint, 1_281_167, 50_000, 3, 1_281_167)
    return DatasetFiles("", fingerprint, entry.train, entry.test, entry.channels, entry.labelled)


def declared_ids(experiment: Path, scale: str) -> list[str]:
    declaration = declare(experiment, [f"scale={scale}"])
    expansion = grid.expand(declaration, files_of(declaration.experiment.dataset.name))
    return sorted(cell.cell_id for cell, _ in expansion.cells)


def test_digits_are_the_images_that_they_were() -> None:
    assert find("digits", None).fingerprint == IDENTITIES["digits_fingerprint"]


@pytest.mark.parametrize("name", IDENTITIES["demo_scales"])
def test_an_experiment_declares_the_cells_that_it_declared(name: str) -> None:
    assert declared_ids(PROJECT / "experiments" / f"{name}.yaml", "demo") == IDENTITIES["demo_scales"][name]


@pytest.mark.parametrize("name", IDENTITIES["other_scales"])
def test_so_does_each_of_its_other_scales(name: str) -> None:
    experiment, _, scale = name.rpartition(".")
    ids = declared_ids(PROJECT / "experiments" / f"{experiment}.yaml", scale)
    known = IDENTITIES["other_scales"][name]
    assert (len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()) == (known["cells"], known["sha256"])


@pytest.mark.parametrize("path", sorted((FOLDER / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_the_records_were_swept_from_declares_them_still(path: Path, own_losses: Path) -> None:
    if path.stem not in EXPECTED["swept"]:
        assert "scheduler" in yaml.safe_load(path.read_text(encoding="utf-8"))  # the profile of the cluster
        return
    manifest = content_of(FOLDER / "results" / "manifests" / f"{path.stem}.demo.json")
    assert declared_ids(path, "demo") == sorted(cell["cell_id"] for cell in manifest["cells"])
