"""``python -m harness.ssl.measure.node_check FOLDER DEVICE`` prints what a process of a job sees, as JSON lines.

``harness doctor`` starts it as one of a job's ranks. It first prints what it sees alone, then whether it reached the
other ranks: where that hangs or kills it, the first line has been printed already.
"""

from __future__ import annotations

import platform
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

import harness
from harness import json_process
from harness.environment.job import rank_in_job
from harness.environment.revision import source_hash
from harness.ssl import distributed
from harness.trees import Node

#: How long ranks wait for each other: several times the time that a slow file system needs to import torch.
PATIENCE = timedelta(seconds=60)
#: float32 values whose sum over the ranks is timed: 64 MiB, about the gradients of a ResNet-18 and a half.
VALUES = 2**24


def alone(folder: Path, device: str) -> dict[str, Node]:
    """Return this node's name, files, devices and installed versions."""
    rank = rank_in_job()
    try:
        token = (folder / "token").read_text(encoding="utf-8")
        (folder / f"rank-{rank}").write_text(token, encoding="utf-8")
        files = ""
    except OSError as error:
        token, files = "", f"{type(error).__name__}: {error.strerror}"
    count = torch.cuda.device_count() if device == "cuda" else 0
    return {
        "rank": rank,
        "host": socket.gethostname(),
        "token": token,
        "files": files,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpus": [torch.cuda.get_device_name(number) for number in range(count)],
        "sources": source_hash(),
        "harness": str(Path(harness.__file__).parent),
    }


def together(device: str) -> dict[str, Node]:
    """Return whether the sum over the ranks is right, and its bytes per second; ranks meet as those of a cell do."""
    from submitit.helpers import TorchDistributedEnvironment

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    with distributed.joined(rank_device := distributed.own_device(device), PATIENCE) as world:
        right = world.size * (world.size + 1) / 2
        values = torch.full((VALUES,), world.rank + 1.0, device=rank_device)
        got = distributed.all_reduce_sum(values)  # the first one connects the ranks and is not timed
        began = time.monotonic()
        distributed.all_reduce_sum(values)[0].item()
        seconds = time.monotonic() - began
        wrong = "" if bool((got == right).all()) else f"the sum over ranks is {got[0].item():g} and not {right:g}"
        return {"ranks": world.size, "network": wrong, "speed": values.nbytes / seconds}


def main() -> None:
    """Answer with what this rank sees alone, then with whether all ranks reach each other."""
    folder, device = Path(sys.argv[1]), sys.argv[2]
    with json_process.answers() as answer:
        seen = alone(folder, device)
        answer(seen)
        try:
            network = together(device)
        except Exception as error:  # noqa: BLE001  (any error of the network's libraries is the answer)
            lines = [line for line in str(error).splitlines() if line.strip()]
            network = {"network": f"{type(error).__name__}: {lines[0] if lines else ''}"}
        answer({"rank": seen["rank"], **network})


if __name__ == "__main__":
    main()
