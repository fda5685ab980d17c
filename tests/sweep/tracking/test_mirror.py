"""The MLflow mirror, on a real store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from harness.manifest import Manifest
from harness.store.outcome import Outcome
from harness.store.provenance import ComputeEnvironment, Provenance
from harness.store.record import Busy, Record
from harness.store.writer_lock import writer_lock
from harness.sweep.declare import evaluation_presets
from harness.sweep.tracking import mirror_process
from harness.sweep.tracking.mirror import CELL, DIGEST, MARK, Mirror
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.tracking_uri import default_uri, embedded, lock_folder
from tests.support.prepared import prepared

pytestmark = pytest.mark.e2e

FOLLOW = "import sys; from harness.sweep.tracking import mirror; mirror.EVERY_SECONDS = 0.2; sys.exit(mirror.main())"
WRITE = """
import sys, time
from pathlib import Path
from harness.store.outcome import Outcome
from harness.store.record import Record
attempt = Record(Path(sys.argv[1])).begin()
for step in range(300):
    attempt.log_event(step, {"loss": step / 7, "val_knn": float(step), "alignment": -step}, epoch=step)
    time.sleep(0.01)
attempt.end(Outcome("finished", metrics={"test_knn": 1.0}))
"""


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return prepared(tiny, ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=[0,1]"])


@pytest.fixture
def results(tiny: Path) -> Path:
    return tiny.parent / "results"


def records(results: Path, manifest: Manifest) -> list[Record]:
    return [Record(results / "runs" / cell.cell_id) for cell in manifest.cells]


def finish(record: Record, manifest: Manifest) -> None:
    attempt = record.begin()
    attempt.log_event(20, {"loss": 1.0}, epoch=1)
    attempt.end(Outcome("finished", metrics={"test_knn": 30.0}, evaluation=manifest.evaluation))


def mirror(results: Path, manifest: Manifest) -> Mirror:
    return Mirror(results, manifest, default_uri(results))


def runs(results: Path) -> list[Run]:
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("tiny.demo")
    return list(client.search_runs([experiment.experiment_id]))


def history(results: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(default_uri(results)).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in points]


def command(results: Path, uri: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "harness.sweep.tracking.mirror",
        str(results),
        str(Manifest.file(results, "tiny.demo")),
        uri,
    ]


def test_a_cell_is_one_run_with_its_own_timestamps_however_often_it_is_mirrored(
    results: Path, manifest: Manifest
) -> None:
    record = records(results, manifest)[0]
    first = record.begin(Provenance(environment=ComputeEnvironment(revision="abc")))
    first.log_event(0, {"val_knn": 10.0})
    first.log_event(20, {"loss": 5.0})
    mirror(results, manifest).mirror()
    first.end(Outcome("interrupted"))
    second = record.begin(Provenance(environment=ComputeEnvironment(revision="abc")))
    second.log_event(20, {"loss": 5.0})
    second.log_event(40, {"loss": 4.0, "val_knn": 20.0})
    second.end(Outcome("finished", metrics={"test_knn": 30.0}, evaluation=manifest.evaluation))
    for _ in range(3):
        mirror(results, manifest).mirror()
    (run,) = runs(results)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_knn"] == 30.0
    assert run.data.params["loss.name"] == "dcl"
    assert run.data.tags["harness.cell_id"] == record.cell_id
    assert run.data.tags["harness.attempts"] == "2"
    assert run.data.tags["harness.revision"] == "abc"
    assert history(results, run, "loss") == [(20, 5.0), (40, 4.0)]
    points = MlflowClient(default_uri(results)).get_metric_history(run.info.run_id, "loss")
    times = {event.step: int(event.time * 1000) for event in second.events()}
    assert points[-1].timestamp == times[40]


def test_steps_are_epochs_so_that_arms_of_any_batch_size_have_one_axis(results: Path, manifest: Manifest) -> None:
    attempt = records(results, manifest)[0].begin()
    attempt.log_event(20, {"val_knn": 10.0, "alignment": 0.5}, epoch=1)
    attempt.log_event(40, {"val_knn": 20.0, "alignment": 0.4}, epoch=2)
    mirror(results, manifest).mirror()
    (run,) = runs(results)
    assert history(results, run, "val_knn") == [(1, 10.0), (2, 20.0)]
    assert history(results, run, "watch.alignment") == [(1, 0.5), (2, 0.4)]
    assert (run.info.run_name, run.data.tags["arm"]) == ("tiny.demo seed 0", "tiny.demo")


def test_a_pass_that_was_killed_before_it_set_its_mark_is_repeated_without_doubled_points(
    results: Path, manifest: Manifest
) -> None:
    record = records(results, manifest)[0]
    killed = record.begin()
    killed.log_event(20, {"loss": 5.0}, epoch=1)
    killed.log_event(40, {"loss": 4.0}, epoch=2)
    first = mirror(results, manifest)
    first.mirror()
    (run,) = runs(results)
    first.client.set_tag(run.info.run_id, MARK, "")
    first.client.delete_experiment_tag(first.experiment_id, DIGEST)
    killed.end(Outcome("interrupted"))
    time.sleep(0.01)
    again = record.begin()
    for epoch, loss in ((2, 4.0), (3, 3.0)):  # epoch 2 once more, at another time
        again.log_event(20 * epoch, {"loss": loss}, epoch=epoch)
    assert mirror(results, manifest).mirror().points == 1
    assert history(results, run, "loss") == [(1, 5.0), (2, 4.0), (3, 3.0)]


def test_a_run_that_was_only_created_is_completed_and_one_created_twice_is_kept_once(
    results: Path, manifest: Manifest
) -> None:
    record = records(results, manifest)[0]
    finish(record, manifest)
    first = mirror(results, manifest)
    for _ in range(2):
        first.client.create_run(first.experiment_id, tags={CELL: record.cell_id})
    assert mirror(results, manifest).mirror().runs == 0
    (run,) = runs(results)
    assert run.data.params["loss.name"] == "dcl"
    assert (run.data.metrics["loss"], run.info.status) == (1.0, "FINISHED")


def test_unchanged_cells_cost_no_request_and_no_reading(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, running = records(results, manifest)
    finish(finished, manifest)
    attempt = running.begin()
    attempt.log_event(20, {"loss": 5.0}, epoch=1)
    warm = mirror(results, manifest)
    warm.mirror()
    requests: Counter[str] = Counter()
    for name in ("create_run", "log_batch", "update_run", "set_terminated", "search_runs", "set_experiment_tag"):

        def count(*args: object, _name: str = name, **more: object) -> object:
            requests[_name] += 1
            return getattr(MlflowClient, _name)(warm.client, *args, **more)

        monkeypatch.setattr(warm.client, name, count)
    read: list[str] = []
    original = Record.events
    monkeypatch.setattr(Record, "events", lambda self: read.append(self.cell_id) or original(self))
    warm.mirror()
    mirror(results, manifest).mirror()
    assert (requests, read) == (Counter(), [])
    attempt.log_event(40, {"loss": 4.0}, epoch=2)
    attempt.end(Outcome("failed", error="x", cause="diverged"))
    warm.mirror()
    assert requests == {"log_batch": 1, "set_terminated": 1, "set_experiment_tag": 1}
    assert read == [running.cell_id]


def test_added_evaluations_become_metrics_under_the_name_of_their_preset(results: Path, manifest: Manifest) -> None:
    record = records(results, manifest)[0]
    finish(record, manifest)
    mirror(results, manifest).mirror()
    evaluation, own = evaluation_presets.load("dkobak"), asdict(record.cell().dataset)
    for dataset in (own, {**own, "name": "fashion_mnist"}):
        content = {"settings": asdict(evaluation), "dataset": dataset, "metrics": {"test_knn": 50.0}}
        record.add_evaluation(replace(evaluation, knn_k=len(dataset["name"])).key(record.cell().dataset), content)
    assert mirror(results, manifest).mirror().points == 2
    (run,) = runs(results)
    metrics = {name: value for name, value in run.data.metrics.items() if name.endswith("knn")}
    assert metrics == {"test_knn": 30.0, "dkobak.test_knn": 50.0, "dkobak.fashion_mnist.test_knn": 50.0}


def test_a_cell_that_failed_before_its_first_event_is_a_failed_run_with_its_error(
    results: Path, manifest: Manifest
) -> None:
    record = records(results, manifest)[0]
    record.begin().end(Outcome("failed", error="Diverged: nan", cause="diverged"))
    mirror(results, manifest).mirror()
    (run,) = runs(results)
    assert run.info.status == "FAILED"
    assert (run.data.tags["harness.cause"], run.data.tags["harness.error"]) == ("diverged", "Diverged: nan")


def test_a_damaged_record_does_not_keep_the_others_out(results: Path, manifest: Manifest) -> None:
    damaged, sound = records(results, manifest)
    for record in (damaged, sound):
        finish(record, manifest)
    (damaged.path / "cell.json").write_text("{}")
    added = mirror(results, manifest).mirror()
    assert (added.runs, list(added.errors)) == (1, [damaged.cell_id])


def test_the_experiment_says_its_question_and_how_to_read_it(results: Path, manifest: Manifest) -> None:
    mirror(results, manifest)
    experiment = MlflowClient(default_uri(results)).get_experiment_by_name("tiny.demo")
    assert "Is DCL more robust?" in experiment.tags["mlflow.note.content"]
    assert "harness report tiny.demo" in experiment.tags["mlflow.note.content"]


def test_table_and_plot_are_artifacts_of_one_summary_run(results: Path, manifest: Manifest) -> None:
    path = results / "table.csv"
    path.write_text("a")
    for _ in range(2):
        mirror(results, manifest).summarize([path])
    (run,) = runs(results)
    client = MlflowClient(default_uri(results))
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["table.csv"]


def test_the_mirror_process_ends_when_the_sweep_does(results: Path, manifest: Manifest) -> None:
    records(results, manifest)[0].begin().log_event(0, {"val_knn": 1.0})
    process = subprocess.Popen(command(results, default_uri(results)), stdin=subprocess.PIPE, env=os.environ)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(runs(results)) == 1


def test_two_mirrors_at_once_make_one_run_a_cell(results: Path, manifest: Manifest) -> None:
    for record in records(results, manifest):
        record.begin().log_event(0, {"val_knn": 1.0})
    uri = default_uri(results)
    processes = [subprocess.Popen(command(results, uri), stdin=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(runs(results)) == 2


def test_eight_cells_at_once_lose_no_point_and_double_none(tiny: Path, results: Path) -> None:
    overrides = ["axes.loss=[dcl,infonce]", "axes.batch_size=[64]", "axes.seed=[0,1,2,3]"]
    manifest = prepared(tiny, overrides)
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW, *command(results, default_uri(results))[3:]], stdin=subprocess.PIPE
    ) as follower:
        cells = [subprocess.Popen([sys.executable, "-c", WRITE, record.path]) for record in records(results, manifest)]
        assert [cell.wait(120) for cell in cells] == [0] * 8
    assert follower.returncode == 0
    assert len(runs(results)) == 8
    for run in runs(results):
        assert history(results, run, "loss") == [(step, step / 7) for step in range(300)]
        assert history(results, run, "val_knn") == [(step, float(step)) for step in range(300)]
        assert history(results, run, "watch.alignment") == [(step, float(-step)) for step in range(300)]


def test_a_turn_is_held_by_one_and_superseded_when_its_holder_has_died(tmp_path: Path) -> None:
    with writer_lock(tmp_path) as first, pytest.raises(Busy), writer_lock(tmp_path):
        pass
    hold = "import sys, time; from pathlib import Path; from harness.store.writer_lock import writer_lock\n"
    hold += "with writer_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Busy, match=rf"^attempt \d+, process {holder.pid} on "), writer_lock(tmp_path):
            pass
        holder.kill()
    with writer_lock(tmp_path) as next_one:
        assert next_one == first + 2
    assert len(list((tmp_path / "attempts").iterdir())) == 2


def test_the_store_in_the_results_has_one_name_on_all_machines(tmp_path: Path) -> None:
    assert lock_folder(tmp_path, default_uri(tmp_path)).name == "here"
    assert lock_folder(tmp_path, "http://a").name != lock_folder(tmp_path, "http://b").name
    assert embedded(default_uri(tmp_path)) == tmp_path / "mlflow.db"
    assert embedded("http://a") is None


def test_a_sweep_begins_when_its_embedded_store_is_there_and_ends_when_it_is_complete(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_process, "EMBEDDED_SECONDS", 240.0)  # the mirror has the lowest priority
    with MirrorProcess(results, Manifest.file(results, manifest.name), default_uri(results)) as process:
        experiment = MlflowClient(default_uri(results)).get_experiment_by_name("tiny.demo")
        assert experiment is not None
        finish(records(results, manifest)[0], manifest)
    assert process.complete
    assert len(runs(results)) == 1


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not weigh sessions")
def test_a_mirror_gives_way_to_cells_in_other_sessions(results: Path, manifest: Manifest) -> None:
    with MirrorProcess(results, Manifest.file(results, manifest.name), default_uri(results)) as process:
        assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 19\n")


def test_a_mirror_that_waits_for_another_one_is_not_waited_for(
    results: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_process, "EMBEDDED_SECONDS", 1.0)
    mirror(results, manifest)
    finish(records(results, manifest)[0], manifest)
    with writer_lock(lock_folder(results, default_uri(results))):
        began = time.monotonic()
        with MirrorProcess(results, Manifest.file(results, manifest.name), default_uri(results)) as process:
            pass
        assert time.monotonic() - began < 30, "a mirror has 60 seconds when it is not told otherwise"
    assert not process.complete
