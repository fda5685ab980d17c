"""``python -m harness.ssl.worker``: compute records one after another, in a process that has imported torch once.

A line of standard input names a record and its submission: ``{"record": path, "submission": {...}}``. The answer, once
its attempt has ended, is a line on standard output: ``{"record": path, "code": code, "said": why, "ends": ends}``, with
code 0 for finished, 1 for failed, 75 for not finished for another reason. The outcome of the cell stands in its record;
the answer only says whether the worker is free, or ends. It ends after a failure, when memory and device may be in any
state, and after a cell whose loss is a user's own: that code may have changed anything in the process, and no other
cell's numbers may depend on it. It also ends when its input does.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import json_process
from harness.errors import UserError
from harness.plugins.sources import user_code_has_run
from harness.ssl.attempt import Unwanted, run_cell
from harness.ssl.train import Interrupted
from harness.store.record import Busy, Record, Superseded
from harness.store.submission import Submission
from harness.trees import Node

RunCell = Callable[[Record, Submission | None], None]

FINISHED, FAILED = 0, 1
#: The exit code of a cell that was stopped without an error of its own (EX_TEMPFAIL).
NOT_FINISHED = 75


def attempt(record: Record, submission: Submission | None, run: RunCell = run_cell) -> tuple[int, str]:
    """Return the exit code of one record, and why it has not finished."""
    try:
        run(record, submission)
    except (Busy, Interrupted, Superseded, Unwanted) as stopped:
        return NOT_FINISHED, str(stopped)
    except UserError as error:
        return FAILED, str(error)
    except Exception as error:  # noqa: BLE001  (whatever a cell raises, its record has it already)
        traceback.print_exc()
        return FAILED, f"{type(error).__name__}: {error}"
    return FINISHED, ""


def answer(request: Mapping[str, Any]) -> Iterator[dict[str, Node]]:
    """Compute the requested record; end the process where it may serve no other cell, without an error of its own."""
    submission, record = Submission.from_json(request["submission"]), Record(Path(request["record"]))
    code, reason = attempt(record, submission)
    ends = code == FAILED or user_code_has_run()
    yield {"record": request["record"], "code": code, "said": reason, "ends": ends}
    if ends:
        raise SystemExit


if __name__ == "__main__":
    json_process.serve(answer)
