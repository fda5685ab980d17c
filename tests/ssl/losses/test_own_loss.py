"""A user's own loss in a cell: what it draws, keeps, changes and imports reaches no other cell, and no resumption."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import harness
from harness.catalog.losses import LOSSES
from harness.errors import UserError
from harness.plugins import register
from harness.ssl.losses.interruption import found_by_interruption
from harness.ssl.losses.own_loss import OwnLoss

Load = Callable[..., OwnLoss]
HEAD = "import random, numpy as np, torch\nfrom torch import nn\n"
#: What begins a loss that returns something differentiable, times a factor.
LOSS = """def mine(z1, z2, *, temperature=0.5{more}):
    {does}
    return (z1 - z2).square().mean() * (factor) / temperature
"""


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, 8, 4, generator=generator)
    return normalize(z1, dim=1), normalize(z2, dim=1)


def text(does: str, top: str = "", more: str = "") -> str:
    return f"{HEAD}{top}\n{LOSS.format(does=does, more=more)}"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text)``: the loss ``mine`` of a file with this text, imported for a cell of this seed."""

    def from_text(content: str, seed: int = 0, name: str = "own.py", **beside: str) -> OwnLoss:
        for module, its_text in beside.items():
            (tmp_path / f"{module}.py").write_text(its_text)
        (tmp_path / name).write_text(content)
        LOSSES.pop("mine", None)
        register([tmp_path / name])
        return OwnLoss(LOSSES["mine"], seed)

    return from_text


def step(loss: OwnLoss, number: int, seed: int = 0) -> float:
    loss.begin_step(seed, number)
    return float(loss(*views(number), temperature=0.5))


DRAWS = {
    "torch": "factor = torch.rand(())",
    "torch of the embeddings": "factor = torch.rand_like(z1).mean()",
    "dropout": "factor = torch.nn.functional.dropout(torch.ones(64)).mean()",
    "numpy": "factor = float(np.random.rand())",
    "random": "factor = random.random()",
    "permutation": "factor = float(torch.randperm(1000)[0])",
}


@pytest.mark.parametrize("does", DRAWS.values(), ids=DRAWS)
def test_what_a_loss_draws_depends_on_seed_and_step_alone(load: Load, does: str) -> None:
    first = [step(load(text(does)), number) for number in range(3)]
    torch.rand(7), np.random.rand(7), random.random()
    loss = load(text(does))
    assert [step(loss, number) for number in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert step(loss, 0, seed=1) != first[0]


def test_what_a_file_draws_while_it_is_imported_comes_from_the_seed(load: Load) -> None:
    content = text("factor = MATRIX.sum()", top="MATRIX = torch.randn(3, 3)")
    first = step(load(content), 0)
    torch.rand(5)
    assert step(load(content), 0) == first != step(load(content, seed=1), 0)


CHANGES = {
    "default type": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "threads": "torch.set_num_threads(3)",
    "precision": "torch.set_float32_matmul_precision('medium')",
    "cudnn": "torch.backends.cudnn.benchmark = True",
    "gradients": "torch.set_grad_enabled(False)",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "numpy": "np.seterr(all='raise')",
    "warnings": "import warnings; warnings.simplefilter('error')",
    "environment": "import os; os.environ['OMP_NUM_THREADS'] = '7'; os.environ.pop('PATH')",
    "folder": "import os; os.chdir('/')",
    "signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "output": "import io, sys; sys.stdout = io.StringIO()",
    "oneDNN": "torch.backends.mkldnn.enabled = False",
    "tiny numbers": "torch.set_flush_denormal(True)",
    "recursion": "import sys; sys.setrecursionlimit(5000)",
    "a function of torch": "torch.nn.functional.normalize = lambda z, dim: 2 * z",
    "a method of tensors": "torch.Tensor.softmax = None",
}
IN_A_CALL = ["default type", "default device", "deterministic algorithms", "threads", "precision", "cudnn",
             "gradients", "anomalies", "numpy", "folder", "output"]  # fmt: skip


def settings() -> list[Any]:
    # The first call in a process imports sympy, which registers a filter of warnings: no setting of a loss.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        np.geterr(),
        list(warnings.filters),
        dict(os.environ),
        os.getcwd(),
        signal.getsignal(signal.SIGTERM),
        sys.stdout,
        sys.getrecursionlimit(),
        torch.backends.mkldnn.enabled,
        float(torch.tensor(1e-40) * 0.5),
        torch.nn.functional.normalize,
        torch.Tensor.softmax,
    ]


@pytest.mark.parametrize("top", CHANGES.values(), ids=CHANGES)
def test_what_a_file_sets_while_it_is_imported_holds_in_its_calls_alone(load: Load, top: str) -> None:
    before = settings()
    loss = load(text("factor = 1", top=f"{top}\nSEEN = []"))
    assert settings() == before
    assert loss.settings, "it is known what was changed"
    loss.begin_step(0, 0)
    try:
        loss.value(*views(), temperature=0.5)
    finally:
        assert settings() == before


@pytest.mark.parametrize("does", ["factor = 1", "import os; os.chdir('/'); factor = 1"])
def test_a_working_folder_that_was_removed_stops_no_loss(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    removed = tmp_path / "removed"
    for gone in (lambda: load(text(does)), lambda: None):  # before the import, and between two steps
        loss = load(text(does))
        removed.mkdir()
        monkeypatch.chdir(removed)
        removed.rmdir()
        loss = gone() or loss
        assert step(loss, 0) > 0
        monkeypatch.chdir(tmp_path)


def test_a_default_type_holds_in_the_calls_of_its_file(load: Load) -> None:
    top = "torch.set_default_dtype(torch.float64)"
    loss = load(text("assert torch.zeros(1).dtype == torch.float64; factor = 1", top=top))
    step(loss, 0)
    assert torch.zeros(1).dtype == torch.float32


@pytest.mark.parametrize("name", IN_A_CALL)
def test_what_a_loss_sets_in_a_call_is_gone_after_it(load: Load, name: str) -> None:
    before = settings()
    loss = load(text(f"{CHANGES[name]}; factor = 1"))
    loss.begin_step(0, 0)
    loss.value(*views(), temperature=0.5)
    assert settings() == before


KEPT = {
    "a number": ("CALLS = 0", "global CALLS; CALLS += 1; factor = CALLS"),
    "a late number": ("CALLS = 0", "global CALLS; CALLS += 1; factor = 1 if CALLS < 1000 else 2"),
    "an average": (
        "CENTER = torch.zeros(4)",
        "CENTER.mul_(0.9).add_(0.1 * z1.detach().mean(0)); factor = CENTER.sum()",
    ),
    "a queue": ("QUEUE = []", "QUEUE.append(z1.detach()); factor = len(QUEUE)"),
    "the first batch": ("FIRST = []", "FIRST or FIRST.append(z1.detach().sum()); factor = FIRST[0]"),
    "a generator of torch": ("G = torch.Generator().manual_seed(0)", "factor = torch.rand((), generator=G)"),
    "a generator of numpy": ("G = np.random.default_rng(0)", "factor = float(G.random())"),
    "a generator of python": ("G = random.Random(0)", "factor = G.random()"),
    "a counter": ("import itertools\nC = itertools.count()", "factor = next(C)"),
    "a buffer": ("NET = nn.BatchNorm1d(4, affine=False)", "factor = NET(z1.detach()).mean() + 1"),
    "an attribute": ("class Kept: n = 0", "Kept.n += 1; factor = Kept.n"),
    "an object": ("class Kept:\n    def __init__(self): self.n = 0\nKEPT = Kept()", "KEPT.n += 1; factor = KEPT.n"),
    "a closure": (
        "def counter():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return up\nUP = counter()",
        "factor = UP()",
    ),
    "a function": ("", "mine.n = getattr(mine, 'n', 0) + 1; factor = mine.n"),
    "a generator": (
        "def numbers():\n    n = 0\n    while True:\n        n += 1\n        yield n\nN = numbers()",
        "factor = next(N)",
    ),
}


def interrupted(load: Load, content: str) -> tuple[OwnLoss, OwnLoss]:
    """Return a loss after three steps, and one of the same file that was resumed from its checkpoint."""
    loss = load(content)
    for number in range(3):
        step(loss, number)
    saved, resumed = loss.checkpoint(), load(content)
    resumed.resume(saved)
    return loss, resumed


@pytest.mark.parametrize(("top", "does"), KEPT.values(), ids=KEPT)
def test_what_a_loss_keeps_outside_of_its_state_stops_the_first_resumption(load: Load, top: str, does: str) -> None:
    _, resumed = interrupted(load, text(does, top=top))
    with pytest.raises(UserError, match="from step to step, and no checkpoint has that") as refused:
        step(resumed, 3)
    assert "own.py" in refused.value.where
    assert "state" in refused.value.allowed
    assert refused.value.next_command.startswith("harness check-loss ")


@pytest.mark.parametrize(("top", "does"), KEPT.values(), ids=KEPT)
def test_what_a_loss_keeps_outside_of_its_state_is_found_before_anything_is_trained(
    load: Load, top: str, does: str
) -> None:
    found = found_by_interruption(load(text(does, top=top)).entry, {}, 8, 4)
    assert "from step to step, and no checkpoint has that" in found
    assert found.endswith("right: def mine(z1, z2, *, ..., state), which keeps it in the dictionary state")


def test_what_no_name_of_the_file_holds_is_found_by_its_values(load: Load) -> None:
    content = text("torch.kept = getattr(torch, 'kept', 0) + 1; factor = torch.kept")
    found = found_by_interruption(load(content).entry, {}, 8, 4)
    del torch.kept
    assert "in a fresh process: keep what a step changes in the dictionary state" in found


def test_what_is_kept_at_the_parameters_of_a_cell_alone_is_found(load: Load) -> None:
    kept = load(text("if temperature > 1: SEEN.append(1)\n    factor = 1 + len(SEEN)", top="SEEN = []"))
    assert found_by_interruption(kept.entry, {}, 8, 4) == ""
    assert "it changes SEEN from step to step" in found_by_interruption(kept.entry, {"temperature": 2.0}, 8, 4)


CACHES = {
    "a dictionary": ("MASKS = {}", "factor = MASKS.setdefault(len(z1), torch.eye(len(z1))).sum()"),
    "functools": (
        "import functools\n@functools.cache\ndef mask(n): return torch.eye(n)",
        "factor = mask(len(z1)).sum()",
    ),
    "a late object": ("LOSS = None", "global LOSS; LOSS = LOSS or nn.MSELoss(); factor = LOSS(z1, z2).detach()"),
    "nothing": ("", "factor = 1"),
}


@pytest.mark.parametrize(("top", "does"), CACHES.values(), ids=CACHES)
def test_a_cache_is_no_state(load: Load, top: str, does: str) -> None:
    loss, resumed = interrupted(load, text(does, top=top))
    assert step(resumed, 3) == step(loss, 3)
    assert found_by_interruption(loss.entry, {}, 8, 4) == ""


def test_a_state_is_kept_from_step_to_step_and_in_checkpoints(load: Load, tmp_path: Path) -> None:
    does = "state['n'] = state.get('n', torch.zeros(4)) + z1.detach().mean(0); factor = state['n'].sum()"
    content = text(does, more=", state")
    loss = load(content)
    assert list(LOSSES["mine"].parameters) == ["temperature"], "no axis"
    for number in range(3):
        step(loss, number)
    torch.save(loss.checkpoint(), tmp_path / "saved.pt")
    resumed = load(content)
    resumed.resume(torch.load(tmp_path / "saved.pt", weights_only=True))
    assert step(resumed, 3) == step(loss, 3) != step(load(content), 3)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ("z1.detach().numpy()", "a ndarray"),
        ("z1.requires_grad_() * 2", "a tensor with a gradient"),
        ("{1, 2}", "a set"),
    ],
)
def test_a_state_that_no_checkpoint_can_hold_is_refused_at_once(load: Load, kept: str, words: str) -> None:
    loss = load(text(f"state['kept'] = {kept}; factor = 1", more=", state"))
    with pytest.raises(UserError, match=f"mine keeps {words} in its state"):
        step(loss, 0)


STRANGE = """
import threading
class Lazy:
    def __getattribute__(self, name): raise ImportError("not installed")
    def __call__(self): ...
LAZY, LOCK, FILE = Lazy(), threading.Lock(), open(__file__)
CIRCLE = []
CIRCLE.append(CIRCLE)
DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]
EMPTY, SPARSE = torch.empty(0), torch.eye(3).to_sparse()
QUANTIZED = torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)
HALF, BITS = torch.ones(2).bfloat16(), torch.ones(2, dtype=torch.bool)
COMPLEX, META = torch.ones(2) * 1j, torch.ones(2, device="meta")
"""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_values_that_cannot_be_looked_into_disturb_nobody(load: Load) -> None:
    loss = load(text("factor = 1", top=STRANGE))
    step(loss, 0)
    resumed = load(text("factor = 1", top=STRANGE))
    resumed.resume(loss.checkpoint())
    assert step(resumed, 1) == step(loss, 1)


TRAINED = {
    "a module": ("SCALE = nn.Linear(1, 1)", "SCALE"),
    "a parameter": ("TEMPERATURE = nn.Parameter(torch.ones(()))", "TEMPERATURE"),
    "a tensor": ("T = torch.ones((), requires_grad=True)", "T"),
    "in a list": ("HEADS = [nn.Linear(1, 1)]", "HEADS"),
    "in a dictionary": ("HEADS = {'a': {'b': nn.Linear(1, 1)}}", "HEADS"),
    "in an object": ("class Own:\n    def __init__(self): self.net = nn.Linear(1, 1)\nOWN = Own()", "OWN"),
    "in a closure": ("def made():\n    net = nn.Linear(1, 1)\n    return lambda z: net(z)\nHEAD = made()", "HEAD"),
}


@pytest.mark.parametrize(("top", "name"), TRAINED.values(), ids=TRAINED)
def test_what_would_have_to_be_trained_is_refused_by_its_name(load: Load, top: str, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} would have to be trained") as refused:
        load(text("factor = 1", top=top))
    assert "requires_grad_(False)" in refused.value.allowed
    frozen = load(text("factor = 1", top="NET = nn.Linear(2, 2).requires_grad_(False)"))
    step(frozen, 0)


def test_what_a_step_makes_that_would_have_to_be_trained_is_refused_by_the_first_checkpoint(load: Load) -> None:
    loss = load(text("global NET; NET = NET or nn.Linear(1, 1); factor = 1", top="NET = None"))
    step(loss, 0)
    with pytest.raises(UserError, match="NET would have to be trained"):
        loss.checkpoint()


@pytest.mark.parametrize(
    ("returned", "words"),
    [("{'loss': z1.sum()}", "a dict"), ("1.5", "a float"), ("None", "a NoneType"), ("(z1.sum(), z2)", "a tuple"),
     ("z1.sum(0)", r"a tensor \(4,\)")],
)  # fmt: skip
def test_a_loss_that_returns_no_scalar_says_what_it_returns(load: Load, returned: str, words: str) -> None:
    with pytest.raises(UserError, match=f"mine returns {words}"):
        step(load(f"def mine(z1, z2, *, temperature=0.5): return {returned}"), 0)


@pytest.mark.parametrize("does", ["import sys; sys.exit(0)", "raise SystemExit('bye')"])
def test_a_loss_cannot_end_the_process_in_silence(load: Load, does: str) -> None:
    with pytest.raises(UserError, match="ends the process"):
        step(load(text(f"factor = 1; {does}")), 0)
    with pytest.raises(UserError, match="cannot be imported: SystemExit"):
        load(text("factor = 1", top=does))


# Modules beside the file.

IMPORTS = {
    "import": ("import sims", "factor = sims.FACTOR"),
    "from import": ("from sims import FACTOR", "factor = FACTOR"),
    "in a function": ("", "import sims; factor = sims.FACTOR"),
    "with its folder on the path": (
        "import os, sys; sys.path.insert(0, os.path.dirname(__file__)); from sims import FACTOR", "factor = FACTOR"
    ),
    "of a neighbour": ("from other import FACTOR", "factor = FACTOR"),
}  # fmt: skip


@pytest.mark.parametrize(("top", "does"), IMPORTS.values(), ids=IMPORTS)
def test_a_module_beside_the_file_is_imported_and_part_of_its_identity(load: Load, top: str, does: str) -> None:
    path, other = list(sys.path), "from sims import FACTOR"
    try:
        two = load(text(does, top=top), sims="FACTOR = 2.0\n", other=other)
        first, value = two.entry.source, step(two, 0)
        assert len(first) == 24
        four = load(text(does, top=top), sims="FACTOR = 4.0\n", other=other)  # as long as before, in the same second
        assert step(four, 0) == 2 * value
        assert four.entry.source[:12] == first[:12]
        assert four.entry.source != first
    finally:
        sys.path[:] = path


def test_an_edit_in_the_same_second_is_what_runs(load: Load, tmp_path: Path) -> None:
    now = time.time()
    values = []
    for factor in ("2.0", "4.0"):
        load(text(f"factor = {factor}"))
        os.utime(tmp_path / "own.py", (now, now))
        values.append(step(OwnLoss(LOSSES["mine"]), 0))
    assert values[1] == 2 * values[0]


def test_an_edit_after_the_cells_were_declared_is_refused(load: Load, tmp_path: Path) -> None:
    loss = load(text("factor = sims.FACTOR", top="import sims"), sims="FACTOR = 2.0")
    (tmp_path / "sims.py").write_text("FACTOR = 4.0")
    with pytest.raises(UserError, match="edited since the cells were declared"):
        OwnLoss(loss.entry)


def test_a_package_beside_the_file_is_hashed_as_far_as_it_is_imported(load: Load, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from .inner import FACTOR\n")
    (tmp_path / "parts" / "inner.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "parts" / "unused.py").write_text("")
    content = text("factor = parts.FACTOR", top="import parts")
    first = load(content)
    value = step(first, 0)
    (tmp_path / "parts" / "unused.py").write_text("1")
    assert load(content).entry.source == first.entry.source
    (tmp_path / "parts" / "inner.py").write_text("FACTOR = 4.0\n")
    again = load(content)
    assert again.entry.source != first.entry.source
    assert step(again, 0) == 2 * value


@pytest.mark.parametrize("how", ["importlib.import_module('sims')", "__import__('sims')"])
def test_an_import_that_no_statement_names_is_refused(
    load: Load, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"sims\.py would be no part of the cells' identity"):
        load(text("factor = 1", top=f"import importlib; {how}"), sims="FACTOR = 2.0")


def test_a_module_from_a_folder_that_the_file_puts_on_the_path_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far_away.py").write_text("FACTOR = 2.0")
    top = f"import sys; sys.path.append({str(tmp_path / 'lib')!r}); import far_away"
    with pytest.raises(UserError, match=r"far_away\.py would be no part of the cells' identity"):
        load(text("factor = 1", top=top))


def test_what_an_installed_package_brings_along_is_installed(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """setuptools puts a folder of its own on the path when somebody imports it, as torch's compiler does."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    brought = tmp_path / "site-packages" / "tools" / "_vendor"
    brought.mkdir(parents=True)
    (brought / "brought_along.py").write_text("FACTOR = 2.0")
    real = sysconfig.get_path
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name: str(tmp_path / "site-packages") if name == "purelib" else real(name)
    )
    plain = step(load(text("factor = 1")), 0)
    top = f"import sys; sys.path.append({str(brought)!r}); import brought_along"
    assert step(load(text("factor = brought_along.FACTOR", top=top)), 0) == 2 * plain


def test_a_neighbour_with_the_name_of_an_installed_module_is_refused(load: Load, tmp_path: Path) -> None:
    content = text("factor = psutil.FACTOR", top="import psutil")
    with pytest.raises(UserError, match=r"it imports psutil, which is .*/psutil\.py beside it, and also") as refused:
        load(content, psutil="FACTOR = 2.0")
    assert refused.value.what.endswith(f"of the installed psutil: {psutil.__file__}")
    assert refused.value.where.endswith("own.py")
    subprocess.run(refused.value.next_command, shell=True, check=True)
    assert refused.value.allowed.startswith("import own_psutil, ")
    load(content.replace("import psutil", "import own_psutil as psutil"))
    load(text("factor = 1", top="import random"), random="FACTOR = 2.0")  # Python's own cannot be meant otherwise


def test_a_package_beside_the_file_with_the_name_of_one_that_is_installed_is_refused(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "__init__.py").touch()
    with pytest.raises(UserError, match=r"a module of the installed PyYAML: .*yaml/__init__.py") as refused:
        load(text("factor = 1", top="from yaml import factors"))
    assert refused.value.next_command == f"mv {tmp_path / 'yaml'} {tmp_path / 'own_yaml'}"


def test_a_neighbour_with_the_name_of_a_module_on_the_path_is_refused(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "my_helpers.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "lib")])
    with pytest.raises(UserError, match=r"a module on Python's path: .*lib/my_helpers.py"):
        load(text("factor = 1", top="import my_helpers"), my_helpers="")


def test_harness_itself_is_no_neighbour_of_a_file_in_its_checkout(load: Load, tmp_path: Path) -> None:
    (tmp_path / "harness").symlink_to(Path(harness.__file__).parent)
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "harness"}
    loss = load(text("factor = 1", top="from harness.ssl.losses.dcl import dcl\nimport harness.errors"))
    assert len(loss.entry.source) == 12, "the hash of the file alone"
    assert step(loss, 0) > 0
    load(text("factor = 2"))
    assert all(sys.modules[name] is module for name, module in before.items())


def test_a_module_that_was_loaded_before_is_not_loaded_again(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = types.ModuleType("sims")
    loaded.FACTOR = 2.0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sims", loaded)
    for _ in range(2):
        load(text("factor = sims.FACTOR", top="import sims"), sims="FACTOR = 4.0")
        assert sys.modules["sims"] is loaded


def test_a_neighbour_that_is_no_python_is_named_with_its_line(load: Load) -> None:
    with pytest.raises(UserError, match="not a Python module") as refused:
        load(text("factor = 1", top="import sims"), sims="\nFACTOR = = 2.0")
    assert refused.value.where.endswith("sims.py:2")


def test_a_file_that_imports_no_neighbour_keeps_its_identity(load: Load) -> None:
    import hashlib

    content = text("factor = 1", top="import math, os.path\nfrom collections import abc")
    assert load(content).entry.source == hashlib.sha256(content.encode()).hexdigest()[:12]


def test_a_file_is_a_module_like_any_other(load: Load) -> None:
    top = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    top += "@dataclass\nclass Settings:\n    factor: float = 2.0\n"
    top += "import pickle, typing\npickle.dumps(Settings())\ntyping.get_type_hints(Settings)\n"
    for name in ("own.py", "random.py", "a b.py"):
        content = f"{top}{HEAD}{LOSS.format(does='factor = Settings().factor', more='')}"
        assert step(load(content, name=name), 0) > 0
    assert sys.modules["random"] is random
