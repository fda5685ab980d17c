"""The tests of Slurm, on the development cluster: ``make test-slurm``, or this with pytest's arguments.

Tests that share the cluster run first; those marked ``exclusive`` follow. Nodes, jobs and tests share one machine with
whatever else it does, and a test may fail for lack of time: each that failed runs again, alone. Both
results are kept in ``.slurm-tests`` (junit's XML and what pytest printed), and the last lines name every test that
needed its second run. Exit code 0: each test passed, at once or alone; 1: one failed twice, or too many failed to be
tried again; 2: there is no cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.slurm_cluster import START, configuration, missing  # noqa: E402

REPORTS = ROOT / ".slurm-tests"
#: Where more fail, the reason is none that another try mends.
MOST_AGAIN = 8
PASSED, FAILED, NO_TESTS = 0, 1, 5
#: What runs, and on how many workers. The tests of the first pass may share the cluster. But on two cores the mirror to
#: MLflow, which gives way to the cells, then starves: every sweep waited a minute for it, and cells ended before the
#: faults that a test plants. With four workers 7 of 63 tests failed so; hence one at a time (0).
PASSES = {"shared": ("slurm and not exclusive", 0), "exclusive": ("slurm and exclusive", 0)}


def pytest(name: str, *arguments: str) -> tuple[int, list[str]]:
    """Its exit code, and the tests that failed; its result is kept under this name."""
    cache = REPORTS / f"{name}.cache"
    options = ["-o", f"cache_dir={cache}", f"--junitxml={REPORTS / name}.xml", "--durations", "15"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    print(f"\n== {name}: pytest {' '.join(arguments)}", flush=True)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    with (REPORTS / f"{name}.log").open("wb") as log:
        while part := os.read(process.stdout.fileno(), 65536):  # as it comes: a line takes minutes
            sys.stdout.buffer.write(part)
            sys.stdout.flush()
            log.write(part)
    code = process.wait()
    failed = cache / "v" / "cache" / "lastfailed"
    return code, list(json.loads(failed.read_text())) if failed.exists() else []


def main(arguments: Sequence[str]) -> int:
    """Both passes, what failed again, and the report."""
    os.environ["SLURM_CONF"] = str(conf := configuration())
    os.environ["HARNESS_REQUIRE_SLURM"] = "1"
    if why := missing(conf):
        print(f"no development cluster: {why}; start it:  {START}", file=sys.stderr)
        return 2
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    os.environ["HARNESS_SLURM_CACHE"] = str(REPORTS / "cache")
    failed: list[str] = []
    for name, (marks, workers) in PASSES.items():
        code, found = pytest(name, "-n", str(workers), "-m", marks, *(arguments or ["tests/slurm"]))
        failed += found
        if code not in (PASSED, FAILED, NO_TESTS) or (code == FAILED and not found):
            return code
    if len(failed) > MOST_AGAIN:
        print("", *(f"FAILED  {test}" for test in failed), sep="\n")
        print(f"{len(failed)} tests failed: too many to be tried again alone")
        return 1
    twice = []
    for number, test in enumerate(failed, 1):
        if pytest(f"again-{number}", "-n", "0", test)[0] != PASSED:
            twice.append(test)
    report(failed, twice)
    return 1 if twice else 0


def report(failed: Sequence[str], twice: Sequence[str]) -> None:
    """The last lines: what needed a second run, and what did not pass it."""
    for test in failed:
        print(f"{'FAILED TWICE' if test in twice else 'FAILED, THEN PASSED ALONE'}  {test}")
    if failed:
        print(f"Both runs of each are in {REPORTS.name}: the first in {' and '.join(f'{name}.xml' for name in PASSES)}")
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a") as file:
                file.writelines(f"- failed {'twice' if test in twice else 'once'}: `{test}`\n" for test in failed)
    else:
        print("Every test of Slurm passed at once.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
