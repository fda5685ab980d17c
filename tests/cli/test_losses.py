"""The catalogue as a user reads it, a user's own loss held against its properties, and swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest

from harness.catalog.losses import LOSSES
from harness.cli import main
from harness.ssl.losses import properties

OWN = '''
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy


def cosines(z1, z2):
    z = torch.cat([z1, z2])
    itself = torch.eye(len(z1), dtype=torch.bool, device=z.device).repeat(2, 2)
    return (z @ z.T).masked_fill(itself, -torch.inf)


def margined(z1, z2, *, temperature=0.1, margin=0.3):
    """LSE(n) - (p - margin / temperature)"""
    positives = ((z1 * z2).sum(1) - margin) / temperature
    return (cosines(z1, z2) / temperature).logsumexp(1).mean() - positives.mean()


def in_order(z1, z2, *, temperature=0.1):
    weights = torch.arange(len(z1), dtype=z1.dtype)
    return (weights * (z1 - z2).square().sum(1)).mean() / temperature


def detached(z1, z2, *, temperature=0.1):
    """Its positive pulls on the first view alone."""
    return (cosines(z1, z2) / temperature).logsumexp(1).mean() - (z1 * z2.detach()).sum(1).mean() / temperature


def on_purpose(z1, z2, *, temperature=0.1):
    return detached(z1, z2, temperature=temperature)


on_purpose.stops_gradient = True


def of_the_far(z1, z2):
    distances = (z1 - z2).square().sum(1)
    return distances[distances >= 0].mean()


def one_way(z1, z2, *, temperature=0.1):
    return cross_entropy(z1 @ z2.T / temperature, torch.arange(len(z1)))


def admittedly_one_way(z1, z2, *, temperature=0.1):
    return one_way(z1, z2, temperature=temperature)


admittedly_one_way.symmetric = False


def raises(z1, z2):
    raise ValueError("not today")


def of_rows(z1, z2):
    return (z1 - z2).square().sum(1)


def with_labels(z1, z2, labels=None, temperature=0.07): ...


def rooted(z1, z2, *, margin=0.5):
    distances = torch.cat([z1, z2])[:, None] - torch.cat([z1, z2])[None]
    return (distances.square().sum(2).sqrt() - margin).clamp(min=0).mean()


def rooted_of_positives(z1, z2):
    return (z1 - z2).square().sum(1).sqrt().mean()


def dropped(z1, z2, *, temperature=0.2):
    logits = z1 @ z2.T / temperature
    drop = (torch.rand_like(logits) < 0.5) & ~torch.eye(len(z1), dtype=torch.bool)
    logits = logits.masked_fill(drop, -1e4)
    target = torch.arange(len(z1))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


CENTER = [0.0]


def centered(z1, z2):
    CENTER[0] = 0.9 * CENTER[0] + 0.1 * (z1 + z2).detach().mean()
    return (z1 - z2).square().sum(1).mean() + CENTER[0]


def declared(z1, z2, *, state):
    center = state.get("center", 0.0)
    state["center"] = 0.9 * center + 0.1 * (z1 + z2).detach().mean(0)
    return ((z1 - z2).square().sum(1) + ((z1 + z2) * center).sum(1)).mean()


def of_the_clock(z1, z2):
    import os
    return (z1 - z2).square().sum(1).mean() * (1 + int.from_bytes(os.urandom(4), "big") / 2**40)


def towards_the_second(z1, z2, *, temperature=0.2):
    """Of one view's embeddings only the values are used, as of a teacher's."""
    return one_way(z1.detach(), z2, temperature=temperature)


towards_the_second.symmetric = False
towards_the_second.stops_gradient = True


def each_rank_its_own(z1, z2):
    scale = 2.0 if dist.is_initialized() and dist.get_rank() == 1 else 1.0
    return scale * (z1 - z2).square().sum(1).mean()
'''
GATHERED, ORDER, SWAP = "2 ranks compute what one does", "the order of samples does not matter", "swapping the views"
FINITE, EQUAL = "the gradient is finite", "it is finite where embeddings are equal"
RESUMED, DRAWS, SETTINGS = "an interrupted cell goes on", "it draws no random", "it leaves the settings"
GRADIENT, SHAPES, SCALAR = "the gradient is that of the value", "shapes do not depend on values", "a finite scalar"


class Ended(NamedTuple):
    code: int | str | None
    out: str
    err: str

    def line(self, words: str) -> str:
        (found,) = [line for line in self.out.splitlines() if words in line]
        return found


Harness = Callable[..., Ended]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """``harness(*arguments)``, in this process."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return Ended(ended.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of losses, in the folder that commands are typed in."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return Path("own.py")


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ranks, which are processes to start; they are tried on a loss that keeps the promise and on one
    that breaks it."""
    monkeypatch.setattr(properties, "_ranks", lambda name: "")


def test_every_loss_is_listed_with_its_properties(harness: Harness) -> None:
    ended = harness("losses")
    assert ended.code == 0
    for name, entry in LOSSES.items():
        (line,) = [line for line in ended.out.splitlines() if line.startswith(f"{name} ")]
        assert ", ".join(entry.parameters) in line
        assert entry.paper.partition(",")[0] in line
    assert ended.line("infonce ").split()[-4:] == ["yes", "yes", "anchors", "temperature"]
    assert "no         yes        batch" in ended.line("vicreg ")


def test_one_loss_is_described_with_equation_parameters_and_identities(harness: Harness) -> None:
    ended = harness("losses", "dcl")
    assert ended.code == 0
    for words in ("arXiv 2110.06848, eq. 6", "LSE(n) - p", "simclr, moco, simo, nnclr", "temperature: 0 < value, by "
                  "default 0.1", "identical    to flatnce, in every gradient"):  # fmt: skip
        assert words in ended.out
    assert ended.line("methods").split() == ["methods", "simclr,", "moco,", "simo,", "nnclr"]
    assert harness("losses", "vicreg").line("methods").split() == ["methods", "simclr"]
    assert "detach_weights: true, false, by default true" in harness("losses", "dclw").out


def test_an_unknown_loss_is_refused_with_the_nearest(harness: Harness) -> None:
    ended = harness("losses", "infonse")
    assert (ended.code, ended.out) == (2, "")
    assert "no loss 'infonse', did you mean 'infonce'?" in ended.err
    assert "barlow_twins" in ended.err


def test_own_losses_are_listed_and_described_too_without_torch(
    harness: Harness, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.write_text(f"print('I was run')\n{OWN}")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch", None)  # whoever imports it now gets an ImportError
        listed, described = harness("losses", "--plugin", "own.py"), harness("losses", "margined", "--plugin", "own.py")
    assert (listed.code, described.code) == (0, 0)
    assert listed.line("margined ").split()[-2:] == ["temperature,", "margin"]
    assert "LSE(n) - (p - margin / temperature)" in described.out
    assert described.line("methods").split() == ["methods", "simclr"]
    assert "I was run" not in listed.out + described.out


@pytest.mark.e2e
def test_a_good_loss_passes_and_is_told_how_to_be_used(harness: Harness, own: Path) -> None:
    ended = harness("check-loss", "own.py:margined")
    assert ended.code == 0, ended.out
    for words in (SCALAR, ORDER, SWAP, GRADIENT, SHAPES, GATHERED, "bf16 embeddings lose little"):
        assert ended.line(words).startswith("ok")
    assert ended.line("scaling the embeddings").startswith("no"), "good to know, and no fault"
    assert "Use it: harness sweep EXPERIMENT --plugin own.py 'axes.loss=[infonce,margined]'" in ended.out


@pytest.mark.e2e
def test_a_loss_without_a_gradient_by_one_view_passes(harness: Harness, own: Path) -> None:
    ended = harness("check-loss", "own.py:towards_the_second")
    assert ended.code == 0, ended.out


@pytest.mark.e2e
def test_ctrl_c_while_ranks_run_ends_the_check(own: Path) -> None:
    """The terminal sends it to the ranks, too, whose end must not count as a property that does not hold."""
    slow = "def slow(z1, z2):\n    import time\n    if dist.is_initialized():\n        open('begun', 'w').close()\n"
    slow += "        time.sleep(60)\n    return margined(z1, z2)\n"
    own.write_text(f"{OWN}\n\n{slow}")
    command = [sys.executable, "-m", "harness.cli.main", "check-loss", "own.py:slow"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not Path("begun").exists() and process.poll() is None:
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            child.send_signal(signal.SIGINT)  # it may reach them first
        time.sleep(2)
        assert {child.status() for child in children} <= {psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING}
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=50)
    assert process.returncode in (130, -signal.SIGINT), errors  # a shell shows both as 130
    assert out == ""


@pytest.mark.e2e
def test_a_loss_that_is_another_in_every_rank_is_caught(harness: Harness, own: Path) -> None:
    ended = harness("check-loss", "own.py:each_rank_its_own")
    assert ended.code == 1
    assert "the gradient of z1 differs by" in ended.line(GATHERED)
    assert [line.startswith("FAILS") for line in ended.out.splitlines()].count(True) == 1


@pytest.mark.parametrize(
    ("name", "failing", "counter_example"),
    [
        ("in_order", ORDER, ["becomes", "in the order [4, 0, 1, 3, 2] (N 5, d 4, temperature 0.05)"]),
        ("detached", GRADIENT, ["by z2[0, 0] autograd has", "differences", "(N 2, d 3, temperature 0.05)"]),
        ("of_the_far", SHAPES, ["nonzero", "(N 2, d 3)"]),
        ("one_way", SWAP, ["becomes", "with the views swapped (NAME.symmetric = False would say so)"]),
        ("raises", SCALAR, ["ValueError: not today (N 2, d 3)"]),
        ("of_rows", SCALAR, ["it returns (2,) (N 2, d 3)"]),
        ("rooted_of_positives", EQUAL, ["equal views: by z1[0, 0] autograd has nan (N 2, d 3)"]),
        ("centered", RESUMED, ["it changes CENTER from step to step, and no checkpoint has that"]),
    ],
)
@pytest.mark.usefixtures("in_one_process")
def test_a_wrong_loss_fails_with_its_first_counter_example(
    harness: Harness, own: Path, name: str, failing: str, counter_example: list[str]
) -> None:
    ended = harness("check-loss", f"own.py:{name}")
    assert ended.code == 1
    assert ended.line(failing).startswith("FAILS")
    for words in counter_example:
        assert words in ended.line(failing)
    assert "Use it" not in ended.out
    if failing not in (SCALAR, RESUMED):
        assert [line.startswith("FAILS") for line in ended.out.splitlines()].count(True) == 1


@pytest.mark.usefixtures("in_one_process")
def test_a_gradient_that_is_nan_fails(harness: Harness, own: Path) -> None:
    """NaN is neither above nor below any limit."""
    ended = harness("check-loss", "own.py:rooted")
    assert ended.code == 1
    assert "autograd has nan" in ended.line(GRADIENT)
    for line in (GRADIENT, FINITE, EQUAL):
        assert ended.line(line).startswith("FAILS")


@pytest.mark.usefixtures("in_one_process")
def test_a_loss_that_draws_is_said_to_draw_from_its_cells_seed(harness: Harness, own: Path) -> None:
    ended = harness("check-loss", "own.py:dropped")
    assert ended.code == 0, ended.out
    assert ended.line(DRAWS).startswith("no ")
    assert "in each step; the draws come from the cell's seed and the step" in ended.line(DRAWS)
    assert "not tried, since it draws random numbers" in ended.line(ORDER)
    for line in (GRADIENT, RESUMED, SETTINGS):
        assert ended.line(line).startswith("ok")


@pytest.mark.usefixtures("in_one_process")
def test_a_declared_state_is_no_fault_and_an_ungoverned_draw_is_one(harness: Harness, own: Path) -> None:
    assert harness("check-loss", "own.py:declared").code == 0
    ended = harness("check-loss", "own.py:of_the_clock")
    assert ended.code == 1
    assert "in a fresh process" in ended.line(RESUMED)


@pytest.mark.usefixtures("in_one_process")
def test_a_setting_that_a_file_changes_is_named(harness: Harness, own: Path) -> None:
    own.write_text(f"import torch\ntorch.set_default_dtype(torch.float64)\n{OWN}")
    ended = harness("check-loss", "own.py:margined")
    assert ended.code == 0
    assert "it changes torch's default type, which holds in its calls only" in ended.line(SETTINGS)


@pytest.mark.usefixtures("in_one_process")
def test_modules_beside_the_file_are_found(harness: Harness, own: Path) -> None:
    Path("sims.py").write_text("def scaled(z, temperature): return z / temperature\n")
    own.write_text(f"from sims import scaled\n{OWN}")
    assert harness("check-loss", "own.py:margined").code == 0


def test_what_would_have_to_be_trained_is_refused(harness: Harness, own: Path) -> None:
    own.write_text(f"{OWN}\nSCALE = torch.nn.Linear(1, 1)\n")
    ended = harness("check-loss", "own.py:margined")
    assert (ended.code, ended.out) == (2, "")
    assert "SCALE would have to be trained, and no parameter of a loss is" in ended.err


@pytest.mark.parametrize(("name", "lacking"), [("admittedly_one_way", SWAP), ("on_purpose", GRADIENT)])
@pytest.mark.usefixtures("in_one_process")
def test_what_a_loss_declares_not_to_have_is_no_fault(harness: Harness, own: Path, name: str, lacking: str) -> None:
    ended = harness("check-loss", f"own.py:{name}")
    assert ended.code == 0
    assert ended.line(lacking).startswith("no ")


@pytest.mark.usefixtures("in_one_process")
def test_a_loss_of_the_catalogue_can_be_checked(harness: Harness) -> None:
    ended = harness("check-loss", "flatnce")
    assert ended.code == 0
    assert ended.line(GRADIENT).startswith("no "), "its gradient is on purpose another"
    assert "'axes.loss=[infonce,flatnce]'" in ended.out


@pytest.mark.usefixtures("in_one_process")
def test_an_installed_packages_loss_is_listed_and_checked_by_its_name(
    harness: Harness, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = Path("own_losses-1.0.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-losses\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[harness.losses]\ntug = own:margined\n")
    monkeypatch.syspath_prepend(Path.cwd())
    assert harness("losses").line("tug ").split()[-2:] == ["temperature,", "margin"]
    assert "'axes.loss=[infonce,tug]'" in harness("check-loss", "tug").out


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("own.py:margind", ["no loss 'margind', did you mean 'margined'?", "in_order"]),
        ("own.py:with_labels", ["own.py:", "with_labels also takes labels", "a loss gets no labels"]),
        ("own.py:dcl", ["own.py:dcl: no loss 'dcl'", "allowed: cosines, margined"]),
        ("nowhere.py:mine", ["nowhere.py: not a file of losses"]),
        ("own.py", ["no loss 'own.py'", "FILE.py:FUNCTION"]),
        ("dcll", ["no loss 'dcll', did you mean 'dcl'?"]),
        ("sogclr", ["keeps log_u between steps"]),
    ],
)
def test_what_cannot_be_checked_is_refused(harness: Harness, own: Path, loss: str, words: list[str]) -> None:
    ended = harness("check-loss", loss)
    assert (ended.code, ended.out) == (2, "")
    for word in words:
        assert word in ended.err


@pytest.mark.e2e
def test_an_own_loss_is_swept_over_its_own_parameter(harness: Harness, own: Path, tiny: Path) -> None:
    axes = ["axes.loss=[margined]", "axes.own.margin=[0.1,0.5]", "axes.batch_size=[256]", "axes.seed=[0]"]
    refused = harness("sweep", "tiny.yaml", *axes)
    assert refused.code == 2
    assert "axes.loss=[margined]: unknown loss 'margined'" in refused.err
    assert not Path("results").exists()

    command = [sys.executable, "-m", "harness.cli.main", "sweep", "tiny.yaml", *axes, "--plugin", "own.py"]
    swept = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "[2/2]" in swept.stdout
    assert "--plugin own.py" in swept.stdout, "the next commands bring the file too"

    reported = harness("report", "tiny.yaml")
    assert reported.code == 0, reported.err
    frame = pd.read_csv("results/tiny.demo.csv")
    assert frame[["loss", "margin", "state"]].to_numpy().tolist() == [
        ["margined", 0.1, "finished"],
        ["margined", 0.5, "finished"],
    ]
    assert frame["q_mean"].isna().all(), "what the logits of an own loss are is its own business"
    assert frame["positive_similarity"].notna().all()
    assert "| 0.5 | 256 | margined |" in Path("results/tiny.demo.table.md").read_text()
