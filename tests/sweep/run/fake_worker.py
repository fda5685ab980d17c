"""A worker that trains nothing: what each attempt at a cell does stands in ``acts.json`` of the results folder.

The n-th attempt does ``acts[n]`` (the last one from then on): ok, ``error: words``, diverged, kill, segfault,
quit (exit code 3), nap (it takes long and stops when it is asked to), stubborn (the same; deaf to signals if
``deaf`` is true), refuse (fails before it begins).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from harness.store.outcome import Outcome
from harness.store.record import Attempt, Busy, Record
from harness.store.submission import Submission
from harness.store.sweeps.ledger import Ledger


class Asked(Exception):
    pass


def asked(*_: object) -> None:
    raise Asked


def compute(record: Record, submission: Submission, acts: list[str]) -> tuple[int, str]:
    folder = record.sweep_folder(submission)
    assert folder
    act = acts[min(len(record.attempts()), len(acts) - 1)]
    if record.withdrawn() or Ledger(folder).stop_reason():
        return 75, "unwanted"
    if act == "refuse":
        return 1, "this cell cannot begin"
    try:
        attempt = record.begin()
    except Busy as busy:
        return 75, str(busy)
    return perform(act, attempt, Ledger(folder))


def perform(act: str, attempt: Attempt, ledger: Ledger) -> tuple[int, str]:
    cell_id = attempt.record.cell_id
    if act in ("nap", "stubborn"):
        try:
            time.sleep(60)
        except Asked:
            attempt.end(Outcome("interrupted", cause=attempt.stop_requested() or "signal"))
            return 75, "interrupted"
    if act in ("kill", "segfault"):
        os.kill(os.getpid(), signal.SIGKILL if act == "kill" else signal.SIGSEGV)
    if act == "quit":
        os._exit(3)
    if act == "ok":
        attempt.end(Outcome("finished", metrics={}, seconds=0.0))
        ledger.finished(cell_id)
        return 0, ""
    cause = "diverged" if act == "diverged" else "error"
    attempt.fail(act, cause)
    ledger.failed(cell_id, cause, act, final=cause != "error")
    return 1, act


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, asked)
    for line in sys.stdin:
        request = json.loads(line)
        record = Record(Path(request["record"]))
        todo = json.loads((record.path.parents[1] / "acts.json").read_text())
        if todo["deaf"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        submission = Submission.from_json(request["submission"])
        code, said = compute(record, submission, todo["cells"][record.cell_id])
        print(json.dumps({"record": request["record"], "code": code, "said": said}), flush=True)
        if code == 1:
            break
