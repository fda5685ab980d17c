"""What a step frees, the next one gets without asking the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

CODE = """
import resource
import torch
from harness.ssl.runtime.malloc import keep_freed_memory
keep_freed_memory()
def step():
    alive = [torch.ones(4 * 2**20) for _ in range(8)]  # 16 MiB each
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    step()
before = faults()
for _ in range(4):
    step()
print((faults() - before) // 4)
"""


def faults_a_step() -> int:
    return int(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_step_takes_its_memory_from_the_one_before() -> None:
    # Without it, tens of thousands in most processes, and none where something small lies on top of the heap.
    assert [faults_a_step() < 500 for _ in range(4)] == 4 * [True]
