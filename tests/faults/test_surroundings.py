"""What users have set up, and where they stand: a folder with files named like modules, variables, homes, locales."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.record import Record
from tests.support.synthetic import make_records, robust

PROGRAM = Path(sys.executable).parent / "harness"
#: One cell of the tiny experiment.
ONE_CELL = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.seed=1"]
#: A store that does not answer: creating one of MLflow's takes longer than such a cell.
NO_STORE = ["--tracking-uri", "http://127.0.0.1:9"]
SHADOWS = ("json", "types", "torch", "numpy", "mlflow", "psutil", "random")


def harness(
    *words: str, cwd: Path, prefix: tuple[str, ...] = (), **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run harness as a user does; a variable that is None is not set."""
    environment = {key: value for key, value in {**os.environ, **variables}.items() if value is not None}
    return subprocess.run(
        [*prefix, str(PROGRAM), *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def finished(folder: Path) -> int:
    """Return how many cells have finished."""
    return sum(Record(path).state() == "finished" for path in (folder / "results" / "runs").iterdir())


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_file_of_the_users_folder_is_taken_for_no_module(tiny: Path, ranks: int) -> None:
    """The folder above a checkout has a folder ``harness``; other folders have a ``random.py``."""
    (tiny.parent / "harness").mkdir()
    for name in SHADOWS:
        (tiny.parent / f"{name}.py").write_text("raise SystemExit('shadowed')")
    done = harness("sweep", "tiny.yaml", *ONE_CELL, f"cluster.gpus={ranks}", *NO_STORE, cwd=tiny.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(tiny.parent) == 1
    assert "shadowed" not in (tiny.parent / "results" / "mlflow-mirror.log").read_text()
    done = harness("doctor", cwd=tiny.parent)
    assert "shadowed" not in done.stdout + done.stderr


#: A user without a name, for which a test needs the superuser. It may read all, since Python may lie in another home.
STRANGER = (
    *("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
OF_USERS = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
needs_superuser = pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can be another user")


@pytest.fixture
def public(tiny: Path) -> Iterator[Path]:
    """A folder that everybody may write to, with the experiment and a folder for temporary files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(tiny, folder)
        (folder / "tmp").mkdir()
        for path in (folder, folder / "tmp"):
            path.chmod(0o777)
        yield folder


@needs_superuser
@pytest.mark.parametrize(
    "variables",
    [{}, {"HOME": "/"}, {"HOME": "other", "XDG_RUNTIME_DIR": "/run/user/54321"}, {"XDG_CACHE_HOME": "other/cache"}],
    ids=["no home", "docker --user", "a home and a runtime folder of another user", "a cache of another user"],
)
def test_a_user_without_a_home_of_its_own_trains(public: Path, variables: dict[str, str]) -> None:
    unset: dict[str, str | None] = dict.fromkeys(OF_USERS)
    (public / "other").mkdir()
    named = {name: value.replace("other", str(public / "other")) for name, value in variables.items()}
    given = {**unset, **named, "TMPDIR": str(public / "tmp")}
    done = harness("sweep", "tiny.yaml", *ONE_CELL, *NO_STORE, cwd=public, prefix=STRANGER, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(public) == 1
    assert list((public / "tmp" / "harness-cache-54321").rglob("costs"))
    # MLflow, too: what it lacks is its server.
    log = (public / "results" / "mlflow-mirror.log").read_text()
    assert "Could not determine home directory" not in log + done.stderr


@needs_superuser
def test_who_may_only_read_the_results_gets_the_report_in_a_folder_of_its_own(public: Path) -> None:
    make_records(public / "tiny.yaml", public / "results", robust, [])
    before = sorted((public / "results").rglob("*"))
    unset: dict[str, str | None] = dict.fromkeys(OF_USERS)
    done = harness("report", "tiny.yaml", cwd=public, prefix=STRANGER, **unset, TMPDIR=str(public / "tmp"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert {"tiny.demo.csv", "tiny.demo.svg", "tiny.demo.pdf"} <= set(os.listdir(public / "reports"))
    assert sorted((public / "results").rglob("*")) == before
    shutil.rmtree(public / "reports")
    (public / "reports").mkdir(mode=0o755)
    done = harness("report", "tiny.yaml", cwd=public, prefix=STRANGER, **unset, TMPDIR=str(public / "tmp"))
    assert done.returncode == 1
    assert "--reports OTHER_FOLDER" in done.stderr
    again = ["report", "tiny.yaml", "--reports", "mine"]
    done = harness(*again, cwd=public, prefix=STRANGER, **unset, TMPDIR=str(public / "tmp"))
    assert done.returncode == 0, done.stderr


def test_a_notebooks_backend_and_a_users_settings_change_no_byte_of_a_report(tiny: Path) -> None:
    make_records(tiny, tiny.parent / "results", robust, [])
    assert harness("report", "tiny.yaml", cwd=tiny.parent).returncode == 0
    written = [*tiny.parent.glob("results/tiny.demo.*"), *tiny.parent.glob("reports/*")]
    plain = {path: path.read_bytes() for path in written}
    (tiny.parent / "matplotlibrc").write_text("lines.linewidth: 9\nsavefig.bbox: tight\naxes.facecolor: red\n")
    backend = "module://matplotlib_inline.backend_inline_that_is_not_installed"
    done = harness("report", "tiny.yaml", cwd=tiny.parent, MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in plain} == plain
    assert any(path.suffix == ".png" for path in plain)
    (tiny.parent / "matplotlibrc").write_bytes(b"# caf\xe9\n")
    done = harness("report", "tiny.yaml", cwd=tiny.parent)
    assert done.returncode == 2
    assert "matplotlibrc in the current folder" in done.stderr
    assert "Traceback" not in done.stderr


#: Executed by every Python of a sweep: the file system refuses calls, as exFAT, CIFS or a FUSE do.
REFUSING = """
import errno, fcntl, os

def refuse(*_, **__):
    raise OSError({number}, os.strerror({number}))

os.link = os.chmod = os.fchmod = os.fsync = fcntl.flock = refuse
"""


@pytest.mark.parametrize("number", [95, 1])  # ENOTSUP, EPERM
def test_cells_train_where_the_file_system_refuses_links_modes_syncs_and_locks(tiny: Path, number: int) -> None:
    (tiny.parent / "site").mkdir()
    (tiny.parent / "site" / "sitecustomize.py").write_text(REFUSING.format(number=number))
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[2]", "axes.seed=2"]
    done = harness("sweep", "tiny.yaml", *words, *NO_STORE, cwd=tiny.parent, PYTHONPATH=str(tiny.parent / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(tiny.parent) == 2
    for words in (["evaluate", "tiny.demo", "--preset", "dkobak"], ["export", "tiny.demo", "--to", "all.tar"]):
        done = harness(*words, cwd=tiny.parent, PYTHONPATH=str(tiny.parent / "site"))
        assert done.returncode == 0, done.stderr


def test_a_limit_of_file_sizes_is_named_and_not_taken_for_a_full_disk(tiny: Path) -> None:
    limited = ("sh", "-c", 'ulimit -f 40; exec "$@"', "sh")  # 40 blocks of 512 bytes
    done = harness("sweep", "tiny.yaml", *ONE_CELL, *NO_STORE, cwd=tiny.parent, prefix=limited)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "files of this process may have at most 20 KiB (ulimit -f)" in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize("gone", ["removed", "renamed"])
def test_a_results_folder_that_goes_away_ends_a_sweep_with_a_sentence(tiny: Path, gone: str) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[64]", "axes.epochs=[200]", "axes.seed=3"]
    results = tiny.parent / "results"
    sweep = subprocess.Popen(
        [PROGRAM, "sweep", "tiny.yaml", *words, *NO_STORE], cwd=tiny.parent, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 200
    while not list(results.glob("runs/*/attempts/1/events.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.1)
    if gone == "removed":
        while results.exists():  # a worker may write into it at this moment
            shutil.rmtree(results, ignore_errors=True)
    else:
        results.rename(tiny.parent / "elsewhere")
    out, errors = sweep.communicate(timeout=200)
    assert sweep.returncode == 2, out + errors
    assert "the results folder is gone" in errors, errors
    assert str(results) in errors
    assert "harness sweep tiny.yaml" in errors
    assert "Traceback" not in errors
    assert not (results / "runs").exists(), "what was moved away is not begun anew in its old place"


#: What a shell, a notebook or a platform may have set; none of it concerns a cell.
NONSENSE = {
    "OMP_NUM_THREADS": "many",
    "MKL_NUM_THREADS": "",
    "WORLD_SIZE": "4",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "7",
    "PYTHONSAFEPATH": "1",
    "PYTHONIOENCODING": "latin-1",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
    "TERM": "dumb",
    "COLUMNS": "0",
    "TMPDIR": "/not/there",
    "CUDA_VISIBLE_DEVICES": "NoDevFiles",
    "XDG_RUNTIME_DIR": "/run/user/54321",
    "MPLBACKEND": "module://not.there",
}


def test_whatever_is_set_a_cell_has_the_same_numbers(tiny: Path) -> None:
    """With umask 077, without standard streams, in a folder whose name is no ASCII."""
    other = tiny.parent / "été 猫"
    other.mkdir()
    shutil.copy(tiny, other)
    outcomes = []
    strange = ("sh", "-c", 'umask 077; exec "$@" <&- >&- 2>&-', "sh")
    for folder, prefix, variables in ((tiny.parent, (), {}), (other, strange, NONSENSE)):
        done = harness("sweep", "tiny.yaml", *ONE_CELL, *NO_STORE, cwd=folder, prefix=prefix, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        (record,) = map(Record, (folder / "results" / "runs").iterdir())
        outcome = record.outcome()
        assert outcome
        outcomes.append((record.cell_id, outcome.metrics, (record.attempts()[0].encoder).read_bytes()))
    assert outcomes[0] == outcomes[1]


def test_two_containers_of_one_host_share_a_cell_in_order(tiny: Path) -> None:
    """Process ids of one mean nothing in the other: the second sweep waits for the first; needs the superuser."""
    command = [
        "sweep",
        "tiny.yaml",
        "axes.loss=[dcl]",
        "axes.batch_size=[64]",
        "axes.epochs=[40]",
        "axes.seed=1",
        *NO_STORE,
    ]
    container = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user cannot make a namespace of processes")
    first = subprocess.Popen(
        [*container, PROGRAM, *command], cwd=tiny.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 200
    while not list(tiny.parent.glob("results/runs/*/attempts/1/events.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "1 running" in harness("status", cwd=tiny.parent).stdout
    second = harness(*command, cwd=tiny.parent)
    assert first.wait(200) == second.returncode == 0, second.stdout + second.stderr
    (record,) = map(Record, (tiny.parent / "results" / "runs").iterdir())
    assert [attempt.number for attempt in record.attempts()] == [1]
