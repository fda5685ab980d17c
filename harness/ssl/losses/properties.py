"""The properties that a loss should have, tried on a loss: each ends with its first counter-example, if any."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.multiprocessing.spawn import spawn

from harness import plugins
from harness.catalog.losses import LOSSES
from harness.random_streams import stream
from harness.ssl.distributed import World, gather
from harness.ssl.losses import LossFunction, function
from harness.ssl.losses.interruption import found_by_interruption
from harness.ssl.losses.own_loss import IMPORT_DRAWS, OwnLoss, seed_generators
from harness.ssl.losses.random_views import random_views
from harness.ssl.losses.validation import skip_value_checks

#: (N, d) of the embeddings that are tried; temperatures of a loss that has one.
SHAPES = ((2, 3), (5, 4), (16, 8), (33, 16))
TEMPERATURES = (0.05, 0.5)
RANKS = 2
HALF_TOLERANCE = 2e-2


@dataclass(frozen=True)
class PropertyResult:
    """The result of trying one property.

    ``required``: a loss without the property is wrong or cannot be trained; other properties are merely informative.
    """

    name: str
    required: bool
    counter_example: str

    @property
    def holds(self) -> bool:
        """Whether no counter-example was found."""
        return not self.counter_example


@dataclass(frozen=True)
class Case:
    """Embeddings of two views in float64, and the loss's parameters."""

    z1: Tensor
    z2: Tensor
    parameters: dict[str, float]

    def __str__(self) -> str:
        given = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items())
        return f"N {len(self.z1)}, d {self.z1.shape[1]}" + (f", {given}" if given else "")


def check(name: str) -> Iterator[PropertyResult]:
    """Try a loss of the catalogue, a registered user's one included."""
    loss, draws = _steady(name), False
    if isinstance(own := function(name), OwnLoss):
        drawing, interruption, settings = _draws(own, name), _interruption(name), _changed_settings(own)
        draws = "each step" in drawing
    tried: list[tuple[str, bool, Callable[[LossFunction, Case], str]]] = [
        ("a finite scalar", True, _finite_scalar),
        ("the order of samples does not matter", True, _permutation),
        ("swapping the views changes nothing", LOSSES[name].symmetric, _swap),
        ("scaling the embeddings changes nothing", False, _scale),
        ("the gradient is that of the value", not LOSSES[name].stops_gradient, _gradient),
        ("the gradient is finite", True, _finite_gradient),
        ("it is finite where embeddings are equal", True, _finite_where_equal),
        ("bf16 embeddings lose little", True, _half),
        ("shapes do not depend on values", True, _static_shapes),
    ]
    for title, required, attempt in tried:
        if draws and attempt in (_permutation, _swap, _scale, _half):
            yield PropertyResult(title, False, "not tried, since it draws random numbers")
        else:
            yield PropertyResult(title, required, _first_counter_example(attempt, loss, name))
    yield PropertyResult(f"{RANKS} ranks compute what one does", True, _ranks(name))
    if isinstance(own, OwnLoss):
        yield PropertyResult("an interrupted cell goes on as if it was not", True, interruption)
        yield PropertyResult("it draws no random numbers", False, drawing)
        yield PropertyResult("it leaves the settings of the process alone", False, settings)


def _steady(name: str) -> LossFunction:
    """Return the loss as it is in the first step: one that draws or keeps something is the same in every call."""
    loss = function(name)
    return loss.first_value if isinstance(loss, OwnLoss) else loss


def cases(name: str) -> Iterator[Case]:
    """Unit embeddings where the loss wants them, else of norms around 1; every shape at every temperature."""
    for number, (n, d) in enumerate(SHAPES):
        case = _case(name, n, d, number)
        for temperature in TEMPERATURES if "temperature" in case.parameters else (None,):
            changed = {} if temperature is None else {"temperature": temperature}
            yield replace(case, parameters={**case.parameters, **changed})


def _case(name: str, n: int, d: int, seed: int) -> Case:
    z1, z2 = random_views(LOSSES[name], n, d, seed, torch.float64)
    return Case(z1, z2, _defaults(name))


def _defaults(name: str) -> dict[str, float]:
    return {key: known.default for key, known in LOSSES[name].parameters.items()}


def _first_counter_example(attempt: Callable[[LossFunction, Case], str], loss: LossFunction, name: str) -> str:
    for case in cases(name):
        try:
            found = attempt(loss, case)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a user's function raises is the finding)
            found = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if found:
            return f"{found} ({case})"
    return ""


def _finite_scalar(loss: LossFunction, case: Case) -> str:
    value = loss(case.z1, case.z2, **case.parameters)
    if not isinstance(value, Tensor) or value.shape != ():
        return f"it returns {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
    return "" if bool(value.isfinite()) else f"its value is {float(value)}"


def _permutation(loss: LossFunction, case: Case) -> str:
    order = torch.randperm(len(case.z1), generator=torch.Generator().manual_seed(0))
    return _differ(loss, case, case.z1[order], case.z2[order], f"in the order {order.tolist()[:8]}")


def _swap(loss: LossFunction, case: Case) -> str:
    return _differ(loss, case, case.z2, case.z1, "with the views swapped (NAME.symmetric = False would say so)")


def _scale(loss: LossFunction, case: Case) -> str:
    with skip_value_checks():
        return _differ(loss, case, 3 * case.z1, 3 * case.z2, "of three times the embeddings")


def _differ(loss: LossFunction, case: Case, z1: Tensor, z2: Tensor, how: str) -> str:
    before, after = (float(loss(a, b, **case.parameters)) for a, b in ((case.z1, case.z2), (z1, z2)))
    return "" if abs(before - after) <= 1e-9 * (1 + abs(before)) else f"{before:.9g} becomes {after:.9g} {how}"


def _gradient(loss: LossFunction, case: Case) -> str:
    """Compare the gradient with central differences at some entries; a stopped gradient is found here, too."""
    if len(case.z1) > 8:
        return ""
    with skip_value_checks():
        for which in (0, 1):
            views = [case.z1.clone(), case.z2.clone()]
            views[which].requires_grad_()
            (gradient,) = _gradients(loss(*views, **case.parameters), [views[which]])
            for index in range(gradient.numel()):
                difference = _central_difference(loss, case, which, index)
                ours = float(gradient.flatten()[index])
                if not abs(ours - difference) <= 1e-5 * (1 + abs(difference)):  # as it also is where one is NaN
                    row, column = divmod(index, case.z1.shape[1])
                    return f"by z{which + 1}[{row}, {column}] autograd has {ours:.6g}, differences {difference:.6g}"
    return ""


def _gradients(value: Tensor, embeddings: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients by the embeddings: zero where none flows."""
    return torch.autograd.grad(value, embeddings, allow_unused=True, materialize_grads=True)


def _central_difference(loss: LossFunction, case: Case, which: int, index: int, step: float = 1e-6) -> float:
    values = []
    for sign in (1, -1):
        views = [case.z1.clone(), case.z2.clone()]
        views[which].view(-1)[index] += sign * step
        values.append(float(loss(*views, **case.parameters)))
    return (values[0] - values[1]) / (2 * step)


def _finite_gradient(loss: LossFunction, case: Case) -> str:
    """Compute the gradient in the precision of training, too."""
    for dtype in (torch.float64, torch.float32):
        views = [z.to(dtype).requires_grad_() for z in (case.z1, case.z2)]
        with skip_value_checks():
            gradients = _gradients(loss(*views, **case.parameters), views)
        for number, gradient in enumerate(gradients, 1):
            if not bool(gradient.isfinite().all()):
                row, column = (~gradient.isfinite()).nonzero()[0].tolist()
                return f"by z{number}[{row}, {column}] autograd has {float(gradient[row, column])}"
    return ""


def _finite_where_equal(loss: LossFunction, case: Case) -> str:
    """Try equal views, and the equal embeddings of a collapsed network, which has to find its way out."""
    collapsed = case.z1[:1].expand_as(case.z1).clone()
    for how, z1, z2 in (("equal views", case.z1, case.z1.clone()), ("equal rows", collapsed, collapsed.clone())):
        if found := _finite_gradient(loss, Case(z1, z2, case.parameters)):
            return f"{how}: {found}"
    return ""


def _half(loss: LossFunction, case: Case) -> str:
    half = [z.bfloat16() for z in (case.z1, case.z2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = float(loss(*half, **case.parameters))
    with skip_value_checks():  # rounded unit embeddings have no unit norm to fp64's taste
        exact = float(loss(*(z.double() for z in half), **case.parameters))
    return "" if abs(rounded - exact) <= HALF_TOLERANCE * (1 + abs(exact)) else f"{exact:.6g} becomes {rounded:.6g}"


def _static_shapes(loss: LossFunction, case: Case) -> str:
    """Compute the loss of tensors without values: ``.item()``, ``if loss > 0`` and boolean gathers raise.

    On a GPU each of these would make the host wait, and no CUDA graph can hold them."""
    try:
        with skip_value_checks(), FakeTensorMode() as mode:
            loss(mode.from_tensor(case.z1), mode.from_tensor(case.z2), **case.parameters)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        return f"{error.func} reads values to go on"
    return ""


def _draws(own: OwnLoss, name: str) -> str:
    """Say where the loss draws from generators that its cell seeds."""
    seed_generators(stream(0, IMPORT_DRAWS))
    before = _generator_states()
    fresh = OwnLoss(own.entry)
    where = [] if _generator_states() == before else ["its import"]
    case = next(cases(name))
    fresh.begin_step(0, 0)
    before = _generator_states()
    with suppress(Exception):  # another property says what the call raises
        fresh.value(case.z1, case.z2, **case.parameters)
    where += [] if _generator_states() == before else ["each step"]
    return f"in {' and '.join(where)}; the draws come from the cell's seed and the step" if where else ""


def _generator_states() -> list[str]:
    return [str(torch.get_rng_state().tolist()), repr(np.random.get_state()), repr(random.getstate())]


def _interruption(name: str) -> str:
    return found_by_interruption(LOSSES[name], _defaults(name), *SHAPES[-1])


def _changed_settings(own: OwnLoss) -> str:
    changed = ", ".join(own.settings)
    return f"it changes {changed}, which holds in its calls only" if changed else ""


def _ranks(name: str) -> str:
    """Value and gradient of ranks that hold their share of the embeddings, against one process."""
    entry = LOSSES[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run_ranks((name, entry.file, folder))
        except Exception as error:  # noqa: BLE001  (whatever happens in a rank)
            return str(error).strip().splitlines()[-1]
        found = torch.load(Path(folder) / "found.pt")
    for case, several in zip(_divisible(name), found, strict=True):
        one = _value_and_gradients(_steady(name), case, World())
        for what, ours, theirs in zip(
            ("the value", "the gradient of z1", "the gradient of z2"), several, one, strict=True
        ):
            gap = float((ours - theirs).abs().max())
            if not gap <= 1e-10 * (1 + float(theirs.abs().max())):  # as it also is where one is NaN
                return f"{what} differs by {gap:.3g} ({case})"
    return ""


def _run_ranks(arguments: tuple[str, ...]) -> None:
    """Start the ranks and wait for them; a Ctrl-C is this process's alone, which ends them."""
    resource_tracker.ensure_running()  # a start that has to start it first takes the mask away
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes that are started now inherit that
    try:
        ranks = spawn(_rank, arguments, nprocs=RANKS, join=False, daemon=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    while not ranks.join():
        pass


def _rank(rank: int, name: str, file: str, folder: str) -> None:
    torch.set_num_threads(1)
    plugins.register([file] if file else [])
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    found = [_value_and_gradients(_steady(name), case, World(rank, RANKS)) for case in _divisible(name)]
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


def _divisible(name: str) -> list[Case]:
    return [case for case in cases(name) if len(case.z1) % RANKS == 0]


def _value_and_gradients(loss: LossFunction, case: Case, world: World) -> list[Tensor]:
    own = [world.local_rows(z).clone().requires_grad_() for z in (case.z1, case.z2)]
    value = loss(*(gather(z) for z in own), **case.parameters)
    gradients = _gradients(value, own)
    with torch.no_grad():
        return [value.detach(), *(gather(gradient / world.size) for gradient in gradients)]
