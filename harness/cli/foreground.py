"""Running cells in the foreground, for the verbs that do: their mirror, their progress, and what is said at the end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from harness.cli.arguments import command
from harness.cli.progress import Progress
from harness.cli.summary import count
from harness.ledger import Ledger, Policy
from harness.manifest import Manifest
from harness.sweep.executors.local import LocalExecutor, Slots
from harness.sweep.marks import is_complete
from harness.sweep.mirrored import Mirrored
from harness.sweep.supervise import NOT_STARTED, Stopped, Task, Watched, supervise
from harness.sweep.uri import default_uri


@dataclass(frozen=True)
class Foreground:
    """Where a verb's cells run and what it says: ``name`` is the manifest's, ``again`` the command to go on with."""

    name: str
    results: Path
    tracking_uri: str
    again: str
    slots: Slots
    policy: Policy

    def run(self, tasks: Sequence[Task], done: int, total: int) -> bool:
        """Run the cells (``done`` of ``total`` have finished before), mirror all; True if all of them have finished."""
        uri = self.tracking_uri or default_uri(self.results)
        if not tasks and is_complete(self.results, Manifest.read(self.results, self.name), uri):
            return True
        mirrored = Mirrored(self.results, self.name, uri)
        try:
            with mirrored:
                return self._supervised(tasks, Progress(done, total)) if tasks else True
        finally:
            if not mirrored.complete:
                sync = command("sync", [self.name], self.results, self.tracking_uri)
                print(f"MLflow is behind the records (log: {mirrored.log}); complete it with: {sync}")

    def _supervised(self, tasks: Sequence[Task], progress: Progress) -> bool:
        foreign = [task.record for task in tasks if task.record.state() == "running"]
        here = [record for record in foreign if record.attempts()[-1].provenance().get("host") == socket.gethostname()]
        if here:
            print(f"{len(here)} cells are still running here from another sweep; they keep their slots")
        executor = LocalExecutor(self.slots, occupied=lambda: sum(record.state() == "running" for record in here))
        ledger = Ledger.open(self.results, self.name, self.policy, again=self.again)
        try:
            with contextlib.closing(executor), progress:
                watched = supervise(tasks, executor, ledger, progress.update)
        except Stopped as stopped:
            print(f"\nstopped; {stopped}. Go on with: {self.again}")
            raise typer.Exit(130) from None
        return self._account(watched, ledger)

    def _account(self, watched: Sequence[Watched], ledger: Ledger) -> bool:
        """Say what has not finished, and what to type."""
        unfinished = [item for item in watched if not item.finished]
        if reason := ledger.refusal():
            print(f"The sweep was stopped: {reason}")
        failed = [item for item in unfinished if item.ended.startswith("FAILED")]
        if failed:
            print(
                f"Failed cells, their reasons and logs: {command('status', [self.name, 'state=failed'], self.results)}"
            )
        if waiting := sum(item.ended == NOT_STARTED for item in unfinished):
            print(f"{count(waiting)} not started")
        if unfinished:
            print(f"{len(unfinished)} of {len(watched)} cells have not finished; go on with: {self.again}")
        return not unfinished
