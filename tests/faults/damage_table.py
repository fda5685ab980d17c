"""Print the table of docs/reliability.md: every case of the damage matrices, tried to its end.

python -m tests.faults.damage_table
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.faults import damage, damage_mirror, damage_running, damage_submitted
from tests.faults.damage import Case

FAILED = "FAILED"
#: What is tried of a case in a folder of its own; it returns what is said about the damaged file.
Check = Callable[[Case, Path], str]


def rows(title: str, cases: list[Case], check: Check, folder: Path) -> list[str]:
    """Return the rows of one matrix: by file, how many cases end as they must, and in how many the file is named."""
    ends: dict[tuple[str, str], list[str]] = {}
    for number, case in enumerate(cases):
        to = folder / f"case-{number}"
        try:
            said = check(case, to)
        except Exception as error:  # noqa: BLE001  (the other cases are tried all the same)
            said = f"{FAILED} {type(error).__name__}: {str(error)[:500]}"
        print(f"{title}{case.name}: {said or 'nothing is said'}", file=sys.stderr, flush=True)
        shutil.rmtree(to, ignore_errors=True)
        ends.setdefault((f"{title}{case.cell}", case.file or "."), []).append(said)
    return [_row(cell, name, said) for (cell, name), said in ends.items()]


def _row(cell: str, name: str, said: list[str]) -> str:
    failed = sum(end.startswith(FAILED) for end in said)
    same = f"{len(said) - failed}" + f", {FAILED} {failed}" * bool(failed)
    return f"| {cell} | `{name}` | {len(said)} | {same} | {sum(map(bool, said)) - failed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--matrix", default="", help="damage, running, mirror or submitted: only this one")
    asked = parser.parse_args()
    lines = ["| cell | file | damages | ends the same | named |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if asked.matrix in ("", "damage", "running"):
            results = damage.prepare(folder / "prepared")
            calm = damage.calm_numbers(results, folder / "calm")
        matrices: dict[str, tuple[str, list[Case], Check]] = {
            "damage": ("", damage.CASES, lambda case, to: damage.check_end(results.copy(to), case, calm)),
            "running": (
                "while a sweep runs: ",
                damage_running.CASES,
                lambda case, to: damage_running.check_running(results.copy(to), case, calm),
            ),
            "mirror": ("MLflow: ", damage_mirror.CASES, damage_mirror.Prepared(folder / "mirror").check),
            "submitted": ("on a cluster: ", damage_submitted.CASES, damage_submitted.check),
        }
        for name, (title, cases, check) in matrices.items():
            if asked.matrix in ("", name):
                lines += rows(title, [case for case in cases if asked.only in case.name], check, folder)
    print("\n".join(lines))
    raise SystemExit(FAILED in "\n".join(lines))


if __name__ == "__main__":
    main()
