"""What shells do to the program: pipes that close, Ctrl-C while it loads, and names that look like something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.shared.load_experiment import load
from harness.errors import UserError
from harness.store.index import Index
from tests.support.results import Results

HARNESS = [sys.executable, "-m", "harness.cli.main"]


def read_until_closed(words: list[str], cwd: Path, lines: int = 0) -> tuple[int, str]:
    """Return the exit code and the standard error of a verb whose output is closed after some lines."""
    with subprocess.Popen(
        [*HARNESS, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        return process.wait(), process.stderr.read()


@pytest.mark.e2e
def test_a_sweep_goes_on_when_its_output_is_closed_and_says_so(tiny: Path) -> None:
    words = ["axes.loss=[dcl]", "axes.batch_size=[256]", "axes.seed=2", "cluster.slots=1"]
    code, said = read_until_closed(["sweep", tiny.name, *words], tiny.parent, lines=1)
    assert code == 0, said
    assert "nobody reads the output any more; sweep goes on" in said
    assert "Traceback" not in said
    assert Index(tiny.parent / "results" / "runs").cell_ids()
    assert all(Index(tiny.parent / "results" / "runs")[cell].state == "finished" for cell in
               Index(tiny.parent / "results" / "runs").cell_ids())  # fmt: skip


@pytest.mark.parametrize(
    "words", [["losses"], ["status"], ["logs"], ["verify", "tiny.demo"], ["plan", "none.yaml"], ["--help"]], ids=str
)
def test_a_verb_whose_output_is_closed_ends_quietly(results: Results, words: list[str]) -> None:
    code, said = read_until_closed(words, results.path.parent)
    assert code in (0, 1, 2), said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    if words[0] == "verify":
        open_code = subprocess.run([*HARNESS, *words], cwd=results.path.parent, capture_output=True, check=False)
        assert code == open_code.returncode, "the exit code is an answer"


@pytest.mark.parametrize("words", [["plan", "tiny.yaml"], ["check-loss", "dcl"], ["status"]], ids=str)
@pytest.mark.parametrize("seconds", [0.15, 0.4])
def test_ctrl_c_while_the_program_loads_ends_it_without_a_traceback(
    tiny: Path, words: list[str], seconds: float
) -> None:
    # The handler is set as soon as Python runs harness; before that, Python itself would answer.
    code = (
        "import os, signal, sys, threading, time\n"
        "sys.argv = ['harness', *sys.argv[1:]]; sys.orig_argv = ['harness']\n"
        "import harness.cli\n"
        f"interrupt = lambda: (time.sleep({seconds}), os.kill(os.getpid(), signal.SIGINT))\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        "from harness.cli.main import main\n"
        "main()\n"
        "time.sleep(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tiny.parent, capture_output=True, text=True, check=False, timeout=100
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (130, 0), "0: it had ended before"


def test_an_ignored_interrupt_stays_ignored() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sys.argv = ['harness']; sys.orig_argv = ['harness']\n"
        "import harness.cli; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize("name", ["my exp=1", "scale=big", "~home", "a,b", "it's", "été 猫", "x.y", "a@b", "50%#1"])
def test_an_experiment_may_have_any_name(tiny: Path, name: str) -> None:
    path = tiny.rename(tiny.with_name(f"{name}.yaml"))
    declared = load(str(path), ["axes.seed=[0]"], tiny.parent / "results")
    declared.manifest.write(tiny.parent / "results")
    for word in (path.name, f"{name}.demo"):
        done = subprocess.run([*HARNESS, "status", word], cwd=tiny.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "4 missing" in done.stdout


def test_a_neighbour_may_be_called_schema_and_an_experiment_may_not(tiny: Path) -> None:
    (tiny.parent / "schema.yaml").write_text("defaults: [schema]\n")
    assert len(load(str(tiny), [], tiny.parent / "results").plan.entries) == 12
    with pytest.raises(UserError, match="schema is the name"):
        load(str(tiny.parent / "schema.yaml"), [], tiny.parent / "results")


@pytest.mark.parametrize("overrides", [[], ["dataset=digits"]])
def test_a_file_that_hides_a_shipped_one_is_said_and_taken(
    tiny: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    own = tiny.parent / "dataset" / "digits.yaml"
    own.parent.mkdir()
    own.write_text(
        "# @package _global_\ndataset: {name: digits, image_size: 8, validation: 0.2}\nviews: {flip: 0.25}\n"
    )
    declared = load(str(tiny), overrides, tiny.parent / "results")
    assert f"note: {own} hides the file of that name which harness brings" in capsys.readouterr().out
    assert {(entry.cell.dataset.validation, entry.cell.views.flip) for entry in declared.plan.entries} == {(0.2, 0.25)}
