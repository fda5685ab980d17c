"""The command line as a whole: its help, its version, and what a shell completes."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import __version__
from harness.cli import main
from tests.support.results import Results

HEAVY = ("torch", "mlflow", "pandas", "matplotlib", "hydra", "omegaconf", "numpy", "harness.sweep", "harness.study")
PROGRAM = Path(sys.executable).parent / "harness"


def function_of(verb: main.Verb) -> object:
    module, _, name = verb.function.partition(".")
    return getattr(importlib.import_module(f"harness.cli.{module}"), name)


def imported(*words: str, environment: Mapping[str, str] | None = None) -> set[str]:
    """Those of the heavy packages that a command imports."""
    code = (
        f"import sys; sys.argv = ['harness', *{list(words)!r}]\n"
        "import harness.cli.main\n"
        "try: harness.cli.main.main()\n"
        "except SystemExit: pass\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_help_lists_every_verb_once_with_its_line_in_four_panels() -> None:
    shown = CliRunner().invoke(main.app, ["--help"], terminal_width=100).stdout
    assert re.findall(r"^╭─ (.+?) ─", shown, re.MULTILINE) == [
        "Options", "Declare and run", "Watch", "Results", "Machine"
    ]  # fmt: skip
    for verb in main.VERBS:
        assert len(re.findall(rf"^│ {verb.name} +{re.escape(verb.help)} +│$", shown, re.MULTILINE)) == 1, verb.name


def test_a_verb_has_a_line_of_help_on_eighty_columns() -> None:
    shown = CliRunner().invoke(main.app, ["--help"], terminal_width=80).stdout
    for verb in main.VERBS:
        assert f" {verb.help} " in shown, verb.name


@pytest.mark.parametrize("verb", main.VERBS, ids=lambda verb: verb.name)
def test_the_help_of_a_verb_begins_with_the_line_that_the_list_shows(verb: main.Verb) -> None:
    assert (inspect.getdoc(function_of(verb)) or "").splitlines()[0] == verb.help
    assert CliRunner().invoke(main.app, [verb.name, "--help"], terminal_width=100).stdout.count(verb.help) == 1


def test_help_and_the_completion_of_verbs_import_nothing_heavy() -> None:
    assert imported("--help") == set()
    assert imported("--version") == set()
    asked = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness sta", "COMP_CWORD": "1"}
    assert imported(environment=asked) == set()


@pytest.mark.parametrize("verb", [verb.name for verb in main.VERBS])
def test_the_help_of_no_verb_imports_what_takes_seconds(verb: str) -> None:
    assert imported(verb, "--help").isdisjoint({"torch", "mlflow", "pandas", "matplotlib"})


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(main.app, ["--version"]).stdout == f"harness {__version__}\n"


def test_a_mistyped_verb_is_guessed() -> None:
    done = CliRunner().invoke(main.app, ["swep"])
    assert done.exit_code == 2
    assert "Did you mean 'sweep'" in done.output


def completed(line: str, cwd: Path, shell: str = "zsh") -> list[str]:
    """What harness answers to a shell that completes the end of this line."""
    asked = {"_HARNESS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    environment = {**os.environ, **asked}
    done = subprocess.run([PROGRAM], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    found = re.findall(
        r'^"([^"]+)"' if shell == "zsh" else r"^([^\t\n]+)", done.stdout.replace("((", "((\n"), re.MULTILINE
    )
    return [word for word in found if word != "_files"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_complete_verbs_with_their_help(shell: str, tmp_path: Path) -> None:
    assert completed("harness e", tmp_path, shell) == ["evaluate", "export-encoder", "export"]
    assert "sweep" in completed("harness ", tmp_path, shell)
    assert "--rerun-stale" in completed("harness sweep --", tmp_path, shell)


def test_names_of_swept_experiments_losses_presets_and_figures_are_completed(results: Results) -> None:
    folder = results.path.parent
    assert completed("harness status ti", folder) == ["tiny.demo"]
    assert completed("harness losses sog", folder) == ["sogclr"]
    assert completed("harness evaluate tiny.demo --preset dk", folder) == ["dkobak"]
    assert completed("harness evaluate tiny.demo --dataset fash", folder) == ["fashion_mnist"]
    assert completed("harness bench ev", folder) == ["evaluation"]


def test_where_nothing_is_known_the_shell_completes_files(tmp_path: Path) -> None:
    assert completed("harness plan exper", tmp_path) == []
    assert completed("harness status experiments/d", tmp_path) == []


def test_bash_completes_after_the_script_that_show_completion_prints(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    script = (
        'eval "$(harness --show-completion bash)"\n'
        "COMP_WORDS=(harness lo); COMP_CWORD=1; _harness_completion harness; echo ${COMPREPLY[@]}\n"
        "complete -p harness\n"
    )
    # Typer takes the name of a shell, and does not look for it, where this is set.
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["losses logs", "complete -o default -F _harness_completion harness"]


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/harness.sh"),
        ("zsh", ".zfunc/_harness"),
        ("fish", ".config/fish/completions/harness.fish"),
    ],
)
def test_install_completion_writes_the_script_of_the_shell(shell: str, file: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    subprocess.run([PROGRAM, "--install-completion", shell], env=environment, capture_output=True, check=True)
    assert f"_HARNESS_COMPLETE=complete_{shell}" in (tmp_path / file).read_text()
