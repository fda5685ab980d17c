"""``python -m harness.ssl RECORD``: compute one prepared record; all that a compute node needs."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.errors import UserError
from harness.record import Busy, Record, Superseded
from harness.ssl.train import Interrupted, run_cell

#: Exit codes of a cell that did not finish through no fault of its own (EX_TEMPFAIL).
NOT_FINISHED = 75


def main() -> int:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "submission.json").exists():
        print("usage: python -m harness.ssl RECORD   (a folder with cell.json and submission.json)", file=sys.stderr)
        return 2
    try:
        run_cell(Record(Path(sys.argv[1])))
    except (Busy, Interrupted, Superseded) as stopped:
        print(stopped, file=sys.stderr)
        return NOT_FINISHED
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
