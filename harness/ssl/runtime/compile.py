"""Networks compiled into kernels by torch, for GPUs that wait for Python where batches are small."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from harness.errors import UserError
from harness.ssl.models import Network

COMPILERS = ("g++", "c++", "clang++")


def compile_networks(method: nn.Module, device: torch.device, *, micro_batches: bool) -> None:
    """Compile the encoding of a training step; ``network.forward``, which evaluation calls, stays as it is.

    On a GPU a step's kernels become one CUDA graph, except with micro-batches: a graph's output lives only until the
    graph runs again, and the outputs of all micro-batches are needed at once.

    Raises:
        UserError: there is no compiler.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        what = "torch compiles for a CPU with a C++ compiler, and there is none"
        allowed = f"{', '.join(COMPILERS)} on the PATH, or CXX"
        raise UserError(what, where="cluster.compile", allowed=allowed, next_command="cluster.compile=false")
    graph = device.type == "cuda" and not micro_batches
    for module in method.modules():
        if isinstance(module, Network):
            module.compile(mode="reduce-overhead" if graph else "default", dynamic=False)
