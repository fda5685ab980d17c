"""``harness logs``: what a cell's attempts printed, and why the last one ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared.arguments import Results, command
from harness.cli.shared.experiment_status import silence
from harness.cli.shared.scheduler import refresh_job_states
from harness.cli.shared.selection import AsJson, Target, named_cells
from harness.errors import UserError
from harness.store.index import Index
from harness.store.record import Attempt, Record
from harness.trees import Node

STREAMS = ("stdout", "stderr")
POLL_SECONDS = 0.5
#: So soon after an attempt has ended, a sweep queues its cell again.
RETRY_SECONDS = 3.0


def logs(
    target: Target,
    results: Results = Path("results"),
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the cell does, from attempt to attempt, until it ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a cell printed and how its attempts ended.

    Standard output and standard error are those of the cell's last attempt.

    --json prints a list of cells: cell_id, name, state, attempts (attempt, holder, state, cause, error), stdout and
    stderr.
    """
    _, cells = named_cells(target, results)
    begun = [(name, record) for name, record in cells if record.attempts()]
    if as_json:
        print(json.dumps([_listed(name, record) for name, record in begun], indent=1))
    elif not begun and not follow:
        print("None of these cells was ever begun.")
    elif not follow:
        for name, record in begun:
            _print(name, record)
    elif len(cells) == 1:
        _follow(*cells[0])
    else:
        running = command("status", [*target, "state=running"], results)
        raise UserError(f"{len(cells)} cells cannot be followed", allowed="one cell", next_command=running)


def _listed(name: str, record: Record) -> dict[str, Node]:
    """Return what ``--json`` prints of a cell."""
    attempts = record.attempts()
    return {
        "cell_id": record.cell_id,
        "name": name,
        "state": record.state(),
        "attempts": [_ended(attempt) for attempt in attempts],
        **{stream: _read(attempts[-1].log(stream)) for stream in STREAMS},
    }


def _ended(attempt: Attempt) -> dict[str, Node]:
    outcome = attempt.outcome()
    return {
        "attempt": attempt.number,
        "holder": attempt.holder(),
        "state": outcome.state if outcome else None,
        "cause": (outcome.cause if outcome else "") or None,
        "error": (outcome.error if outcome else "") or None,
    }


def _print(name: str, record: Record) -> None:
    attempts = record.attempts()
    print(f"{record.cell_id}  {name}: {record.state()}")
    for attempt in attempts:
        print(_heading(attempt))
    for stream in STREAMS:
        if text := _read(attempts[-1].log(stream)):
            print(f"--- {stream}\n{text.rstrip()}")
    print(_reason(attempts[-1]))


def _heading(attempt: Attempt) -> str:
    began = attempt.provenance().started_at
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began)) if began else "?"
    outcome = attempt.outcome()
    return f"{attempt.holder()}, begun {when}: {outcome.state if outcome else 'end not recorded'}"


def _reason(attempt: Attempt) -> str:
    """Say in a line how the attempt ended."""
    outcome = attempt.outcome()
    if outcome is None:
        if attempt.alive():
            return "--- it runs"
        age = attempt.age()
        if age is not None and (silent := silence(attempt.provenance().process, age)):
            return f"--- its end was not recorded: {silent}"
        return "--- its end was not recorded: it was killed, or its machine went down"
    return "--- " + ": ".join(filter(None, (outcome.state, outcome.cause, outcome.error)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _follow(name: str, record: Record) -> None:
    """Print until the cell's last attempt has ended and no other is to come."""
    print(f"{record.cell_id}  {name}", flush=True)
    done = 0
    with suppress(KeyboardInterrupt):
        while attempt := _next(record, done):
            print(_heading(attempt), flush=True)
            for text in _grown(attempt):
                print(text, end="", flush=True)
            print(_reason(attempt), flush=True)
            done = attempt.number
    if not done:
        print("it was not begun yet")


def _next(record: Record, done: int) -> Attempt | None:
    """Wait for the cell's next attempt and return it; None if the cell is not queued again."""
    index, until = Index(record.path.parent), time.monotonic() + RETRY_SECONDS
    while True:
        refresh_job_states(record.path.parent.parent, settling=False)
        later = [attempt for attempt in record.attempts() if attempt.number > done]
        if later:
            return later[0]
        index.refresh()
        state = index[record.cell_id].state
        if state == "finished" or (state != "queued" and time.monotonic() > until):
            return None
        time.sleep(POLL_SECONDS)


def _grown(attempt: Attempt) -> Iterator[str]:
    """Yield what the attempt writes, until it has ended."""
    read = dict.fromkeys(STREAMS, 0)
    over = False
    while not over:
        over = attempt.outcome() is not None or attempt.superseded() or not attempt.alive()
        for stream in STREAMS:
            text = _read(attempt.log(stream))
            yield text[read[stream] :]
            read[stream] = len(text)
        if not over:
            time.sleep(POLL_SECONDS)
