"""What a loss costs: tiles against whole matrices, and both against other libraries' losses.

    python -m tests.benchmarks.losses [--large N]

Seconds are medians of forward + backward of N samples' raw embeddings (N, 128), fp32, normalised inside as the others
do, on two threads; two forms take turns in one process. Peak memory is what a fresh process grows by in one step.
pytorch-metric-learning's loss holds 2N x 2N (2N - 2) numbers: 34 GB at N = 1,024, where it is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.ssl.losses import FUNCTIONS
from harness.ssl.losses.validation import skip_value_checks

DIMENSIONS, THREADS, TEMPERATURE = 128, 2, 0.1
ROUNDS = {64: 200, 256: 40, 1024: 10}
FEW_ROUNDS = 2  # of what takes seconds
PAIRS_HELD = 512  # samples beyond which pytorch-metric-learning's loss does not fit a workstation

Loss = Callable[[Tensor, Tensor], Tensor]


def ours(name: str, z1: Tensor, z2: Tensor) -> Tensor:
    """As the training loop calls it."""
    with skip_value_checks():
        return FUNCTIONS[name](normalize(z1, dim=1), normalize(z2, dim=1), temperature=TEMPERATURE)  # type: ignore[no-any-return]


def whole_matrix(name: str, z1: Tensor, z2: Tensor) -> Tensor:
    """The same loss of a matrix of cosines that exists, by autograd."""
    n = len(z1)
    anchors = torch.cat([normalize(z1, dim=1), normalize(z2, dim=1)])
    cosines = anchors @ anchors.T
    itself = torch.eye(n, dtype=torch.bool).repeat(2, 2)
    positives = torch.cat([cosines.diagonal(n), cosines.diagonal(-n)]) / TEMPERATURE
    v = (cosines / TEMPERATURE).masked_fill(itself, -torch.inf).logsumexp(1) - positives
    return (torch.logaddexp(v, torch.zeros_like(v)) if name == "infonce" else v).mean()


def others(n: int) -> dict[str, Loss]:
    from lightly.loss import DCLLoss, NTXentLoss
    from pytorch_metric_learning import losses

    found: dict[str, Loss] = {"lightly NTXent": NTXentLoss(TEMPERATURE), "lightly DCL": DCLLoss(TEMPERATURE)}
    if n <= PAIRS_HELD:
        found["metric-learning NTXent"] = losses.SelfSupervisedLoss(losses.NTXentLoss(TEMPERATURE))
    return found


def step(loss: Loss, n: int) -> tuple[float, Tensor]:
    """Seconds, and the first view's gradient."""
    z1, z2 = torch.randn(2, n, DIMENSIONS, generator=torch.Generator().manual_seed(0)).unbind()
    z1.requires_grad_()
    z2.requires_grad_()
    begun = time.perf_counter()
    loss(z1, z2).backward()
    seconds = time.perf_counter() - begun
    assert z1.grad is not None
    return seconds, z1.grad


def compare(forms: dict[str, Loss], n: int, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):
        for name, loss in forms.items():
            seconds[name].append(step(loss, n)[0])
    medians = {name: statistics.median(times[1:] or times) for name, times in seconds.items()}
    for name, median in medians.items():
        kind = "DCL" if "DCL" in name else "InfoNCE"
        print(
            f"N {n:>6}  {name:<24} {1e3 * median:>10.2f} ms  {median / medians[f'ours {kind}']:>6.2f} x ours",
            flush=True,
        )


def growth(queue: multiprocessing.Queue[int], loss: Loss, n: int) -> None:
    """Bytes by which the process's largest size grows in one step."""
    torch.set_num_threads(THREADS)
    step(loss, 8)
    before = largest()
    step(loss, n)
    queue.put(largest() - before)


def largest() -> int:
    """Bytes of this process at its largest; getrusage would start from what the parent has had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return 1024 * int(found[1])


def peak(loss: Loss, n: int) -> int:
    """``growth`` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=growth, args=(queue, loss, n))
    process.start()
    grown = queue.get()
    process.join()
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--large", type=int, nargs="*", default=[8192], help="numbers of samples for tiles against whole"
    )
    parser.add_argument("--small", type=int, nargs="*", default=list(ROUNDS), help="numbers for the other libraries")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    tiles = {"ours InfoNCE": partial(ours, "infonce"), "ours DCL": partial(ours, "dcl")}
    whole = {"whole InfoNCE": partial(whole_matrix, "infonce"), "whole DCL": partial(whole_matrix, "dcl")}
    for n in asked.small:
        for name, loss in (others(n) | whole).items():
            reference = tiles["ours DCL" if "DCL" in name else "ours InfoNCE"]
            torch.testing.assert_close(step(loss, n)[1], step(reference, n)[1], rtol=1e-3, atol=1e-6)
        for name, loss in (whole | others(n)).items():  # by twos: a large one leaves nothing of the next one's cache
            own = "ours DCL" if "DCL" in name else "ours InfoNCE"
            rounds = FEW_ROUNDS if "metric" in name else ROUNDS.get(n, FEW_ROUNDS)
            compare({own: tiles[own], name: loss}, n, rounds)
    for n in asked.large:
        compare({"ours InfoNCE": tiles["ours InfoNCE"], "whole InfoNCE": whole["whole InfoNCE"]}, n, FEW_ROUNDS)
        bytes_of = {
            form: peak(loss, n) for form, loss in (("tiles", tiles["ours InfoNCE"]), ("whole", whole["whole InfoNCE"]))
        }
        held = ", ".join(f"{form} {grown / 2**20:.0f} MiB" for form, grown in bytes_of.items())
        print(f"N {n:>6}  peak memory: {held}, {bytes_of['whole'] / bytes_of['tiles']:.0f} x")


if __name__ == "__main__":
    main()
