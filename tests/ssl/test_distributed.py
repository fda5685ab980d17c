"""W processes compute what one process computes: values, gradients, weights, statistics, queues, averages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.ssl.distributed import World
from tests.support.ranks import compute

ROOT = Path(__file__).parents[2]

#: Tensors by case and name.
Found = dict[str, dict[str, torch.Tensor]]


def on_ranks(count: int, bn_groups: list[int], out: Path, micro_batch: int = 0) -> Found:
    command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "tests.support.ranks"]
    command += [str(out), str(micro_batch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command, *map(str, bn_groups)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Found = torch.load(out)
    return found


# With 4 ranks: one group over all, a group over two ranks each, one a rank, two a rank.
@pytest.mark.ranks
@pytest.mark.parametrize(("ranks", "bn_groups"), [(2, [1, 2]), (4, [1, 2, 4, 8])])
def test_ranks_compute_what_one_process_computes(ranks: int, bn_groups: list[int], tmp_path: Path) -> None:
    assert_equal(on_ranks(ranks, bn_groups, tmp_path / "found.pt"), compute(bn_groups, World()))


# Two ranks hold two micro-batches of one group or two groups each.
@pytest.mark.ranks
def test_ranks_in_micro_batches_compute_what_one_process_computes_at_once(tmp_path: Path) -> None:
    found = on_ranks(2, [4, 8], tmp_path / "found.pt", micro_batch=4)
    assert_equal(found, compute([4, 8], World()))


def assert_equal(found: Found, expected: Found) -> None:
    assert found.keys() == expected.keys()
    for case, tensors in expected.items():
        tolerance = 1e-12 if case.startswith("loss") else 1e-10
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                found[case][name], tensor, rtol=tolerance, atol=tolerance,
                msg=lambda text, case=case, name=name: f"{case}, {name}: {text}",
            )  # fmt: skip


def test_batch_norm_groups_are_an_experiment_of_their_own() -> None:
    one, two = (compute([groups], World()) for groups in (1, 2))
    first, second = one["simclr infonce bn_groups=1"]["losses"], two["simclr infonce bn_groups=2"]["losses"]
    assert float((first - second).abs().max()) > 1e-3
