"""``python -m harness.ssl RECORD``: compute one prepared record; all that a compute node needs."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.record import Record
from harness.ssl.worker import attempt


def main() -> int:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "submission.json").exists():
        print("usage: python -m harness.ssl RECORD   (a folder with cell.json and submission.json)", file=sys.stderr)
        return 2
    code, said = attempt(Record(Path(sys.argv[1])), None)
    if said:
        print(said, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
