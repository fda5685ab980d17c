"""The command line under the variables, locales and streams that people really have."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.cli import doctor, main
from harness.cli.shared import unwritable
from harness.environment import device_locks
from harness.environment.surroundings import OF_OTHER_LAUNCHERS
from harness.files import cache_folder
from tests.support.results import Results
from tests.support.synthetic import make_records, robust

PROGRAM = Path(sys.executable).parent / "harness"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
#: Says that DCL loses less, in letters that Latin-1 does not have.
CLAIM = (
    "claims=[{name: robust, says: 'DCL – 猫 – loses less.', source: x, measure: drop, "
    "arms: ['loss=dcl', 'loss=infonce'], over: batch_size}]"
)


def harness(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run harness as a user does."""
    return subprocess.run(
        [PROGRAM, *words], cwd=cwd, env={**os.environ, **variables}, capture_output=True, check=False,
        text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("variables", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_verdict_is_printed_in_any_encoding(tiny: Path, variables: dict[str, str]) -> None:
    """A letter that cannot be printed would end verify with 1, which means that a claim is not reproduced."""
    make_records(tiny, tiny.parent / "results", robust, [CLAIM])
    done = harness("verify", "tiny.yaml", cwd=tiny.parent, **variables)
    assert done.returncode == 0, done.stderr
    assert "Of 1 verdict in all, 1 is REPRODUCED." in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["losses"], ["status"], ["plan", "--help"]])
def test_other_verbs_print_in_ascii_as_well(words: list[str], results: Results) -> None:
    done = harness(*words, cwd=results.path.parent, **ASCII)
    assert done.returncode == 0, done.stderr


def test_a_folder_whose_name_is_no_text_is_printed_all_the_same(results: Results) -> None:
    strange = Path(os.fsdecode(os.fsencode(results.path.parent) + b"/caf\xe9"))
    results.path.rename(strange)
    done = harness("status", "ffffff", "--results", strange, cwd=strange.parent)
    assert done.returncode == 2
    assert "no cells begin with 'ffffff'" in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "", "many"])
def test_a_width_that_is_no_terminals_hides_nothing(columns: str, results: Results) -> None:
    done = harness("status", cwd=results.path.parent, COLUMNS=columns)
    assert "tiny.demo: 4 cells: 4 missing" in done.stdout


@pytest.mark.parametrize(
    "variables", [{"TERM": "dumb"}, {"TERM": ""}, {"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"}]
)
def test_variables_of_terminals_and_of_python_change_nothing(variables: dict[str, str], results: Results) -> None:
    plain, done = harness("status", cwd=results.path.parent), harness("status", cwd=results.path.parent, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_place_to_write_to(closed: str, results: Results) -> None:
    """The next file that a process opens gets the number of the closed stream, and what it prints."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" status {closed}', PROGRAM], cwd=results.path.parent, capture_output=True, check=False
    )
    assert done.returncode == 0
    if ">&-" not in closed.replace("2>&-", ""):
        assert b"4 missing" in done.stdout


def test_children_inherit_what_harness_needs_and_nothing_of_other_launchers(tmp_path: Path) -> None:
    code = (
        "import json, os, sys; from harness.environment.surroundings import make_fit; make_fit()\n"
        "print(json.dumps(dict(os.environ)))"
    )
    others = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "1", "PYTHONINSPECT": ""}
    given = {**os.environ, **others, **dict.fromkeys(OF_OTHER_LAUNCHERS, "7"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    left = json.loads(done.stdout)
    assert not left.keys() & {*others, *OF_OTHER_LAUNCHERS}
    assert left["PYTHONIOENCODING"] == "utf-8:backslashreplace"


def refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_the_advice_follows_the_place_of_the_file(number: int, tmp_path: Path) -> None:
    words = ["report", "x.yaml", "--results", str(tmp_path / "r"), f"--reports={tmp_path / 'p'}"]
    advice = {
        cache_folder() / "costs" / "a.json": "export XDG_CACHE_HOME=FOLDER",
        device_locks.folder() / "core-0": "export XDG_RUNTIME_DIR=FOLDER",
        tmp_path / "p" / "x.pdf": "--reports OTHER_FOLDER",
        tmp_path / "r" / "runs" / "a": "--results OTHER_FOLDER",
        Path("/somewhere/else"): "there",
    }
    for path, expected in advice.items():
        said = unwritable.remedy(refused(number, path), words)
        assert said.endswith(expected), path
        assert said.startswith("make room" if number in unwritable.FULL else "get write access")
    default = unwritable.remedy(refused(number, Path("results/runs/x")), ["sweep", "x.yaml"])
    assert default.endswith("--results OTHER_FOLDER")


def test_a_limit_of_files_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    assert unwritable.remedy(refused(errno.EFBIG, tmp_path), []).startswith("ulimit -f unlimited")
    assert unwritable.remedy(refused(errno.ENOENT, tmp_path), []) == ""


@pytest.mark.parametrize(("verb", "code"), [("verify", 2), ("check-loss", 2), ("status", 1)])
def test_an_error_is_no_answer(
    verb: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 1 of verify means that a claim is not reproduced."""

    def fail() -> None:
        raise refused(errno.EIO, tmp_path)

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(sys, "argv", ["harness", verb])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
    assert "Input/output error" in capsys.readouterr().err


def test_a_crash_of_verify_is_no_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake of harness")

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(sys, "argv", ["harness", "verify"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "RuntimeError: a mistake of harness" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cache", "found"),
    [
        ("own", "own/harness"),
        ("/dev/null", "since there is no home that can be written"),
        ("shut", "cannot be written"),
    ],
)
def test_doctor_says_where_the_cache_lies(
    cache: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache == "shut":
        (tmp_path / "shut" / "harness").mkdir(parents=True)
        monkeypatch.setattr(os, "access", lambda path, mode: "shut" not in str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", cache if cache.startswith("/") else str(tmp_path / cache))
    (said,) = [finding for finding in doctor._machine(tmp_path) if finding.what == "cache"]
    assert found in said.found
    assert said.fix == ("" if cache == "own" else "export XDG_CACHE_HOME=FOLDER")
