"""24 small cells by Hydra's multirun (submitit's local launcher) and by ``harness sweep``, side by side.

    pip install hydra-submitit-launcher
    python tests/benchmarks/multirun/compare.py [hydra] [harness]

Cell 7 fails. Then its cause is mended and the same command is given again. Prints, for each tool and each of the two
commands: wall time, most training processes at once, how many cells were trained, and how it ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TEMPERATURES = yaml.safe_load((HERE / "cells.yaml").read_text())["axes"]["temperature"]
SWEEP = [
    sys.executable,
    "-m",
    "harness.cli.main",
    "sweep",
    str(HERE / "cells.yaml"),
    "--plugin",
    str(HERE / "fragile.py"),
]
MULTIRUN = [sys.executable, str(HERE / "train.py"), "-m", f"temperature={','.join(map(str, TEMPERATURES))}"]


class Processes(threading.Thread):
    """Counts those that have torch loaded, while the block runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.most = max(self.most, sum(_has_torch(path) for path in Path("/proc").glob("[0-9]*")))


def _has_torch(process: Path) -> bool:
    with suppress(OSError):
        return "libtorch_cpu" in (process / "maps").read_text()
    return False


def timed(command: list[str], folder: Path) -> dict[str, Any]:
    before = {path: path.stat().st_mtime for path in folder.rglob("encoder.safetensors")}
    counter, begun = Processes(), time.monotonic()
    counter.start()
    environment = {**os.environ, "MENDED": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    counter.over.set()
    trained = [path for path in folder.rglob("encoder.safetensors") if path not in before]
    lines = (done.stdout + done.stderr).strip().splitlines()
    said = [line for line in lines if "cell 7 is broken" in line][:1]
    return {
        "wall seconds": round(time.monotonic() - begun, 1),
        "most processes with torch": counter.most,
        "cells trained": len(trained),
        "exit code": done.returncode,
        "of the failure it says": said[0][:110] if said else "",
    }


def main() -> None:
    tools = {"hydra": MULTIRUN, "harness": SWEEP}
    for name in sys.argv[1:] or tools:
        command = tools[name]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            print(name, "first", json.dumps(timed(command, folder)), flush=True)
            (folder / "mended").touch()
            print(name, "again", json.dumps(timed(command, folder)), flush=True)


if __name__ == "__main__":
    main()
