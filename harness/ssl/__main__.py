"""``python -m harness.ssl RECORD [SUBMISSION]``: compute one prepared record. A compute node needs no more.

``SUBMISSION`` is the submission as JSON; by default it is read from the record.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness.json_process import end_at_once
from harness.plugins.sources import user_code_has_run
from harness.ssl.worker import attempt
from harness.store.record import Record
from harness.store.submission import Submission


def main() -> int:
    """Train the record that the command line names, and return the exit code."""
    if len(sys.argv) not in (2, 3) or not (Path(sys.argv[1]) / "submission.json").exists():
        usage = "python -m harness.ssl RECORD [SUBMISSION]   (a folder with cell.json and submission.json, and JSON)"
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    submission = Submission.from_json(json.loads(sys.argv[2])) if len(sys.argv) == 3 else None
    code, message = attempt(Record(Path(sys.argv[1])), submission)
    if message:
        print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    exit_code = main()
    if user_code_has_run():
        end_at_once(exit_code)
    sys.exit(exit_code)
