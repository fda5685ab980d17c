"""Running cells in the foreground, for the verbs that do: their mirror, their progress, and what is said at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from harness.cli.shared.arguments import command
from harness.cli.shared.progress import Progress
from harness.cli.shared.text import count
from harness.errors import UserError
from harness.manifest import Manifest
from harness.store.sweeps.ledger import Ledger, Policy
from harness.sweep.run.local_scheduler import LocalScheduler
from harness.sweep.run.slots import Slots
from harness.sweep.run.supervisor import NOT_STARTED, Stopped, Task, TaskState, supervise
from harness.sweep.tracking.mirror_process import MirrorProcess
from harness.sweep.tracking.sync_state import is_complete
from harness.sweep.tracking.tracking_uri import default_uri


@dataclass(frozen=True)
class Foreground:
    """Runs cells on this machine and prints what happens; ``again`` is the command to go on with."""

    manifest: Manifest
    results: Path
    tracking_uri: str
    again: str
    slots: Slots
    policy: Policy

    def run(self, tasks: Sequence[Task], done: int, total: int) -> bool:
        """Run the cells (``done`` of ``total`` have finished before), mirror all; True if all of them have finished.

        Raises:
            UserError: the results folder went away meanwhile.
        """
        uri = self.tracking_uri or default_uri(self.results)
        name = self.manifest.name
        if not tasks and is_complete(self.results, self.manifest, uri):
            return True
        ledger = Ledger.open(self.results, name, self.policy, again=self.again) if tasks else None
        manifest = ledger.manifest if ledger else Manifest.file(self.results, name)
        if ledger:  # a file of its own to mirror: a later sweep of the experiment may declare other cells
            self.manifest.save(manifest)
        mirrored = MirrorProcess(self.results, manifest, uri)
        try:
            with mirrored:
                return self._supervised(tasks, ledger, Progress(done, total)) if ledger else True
        except OSError:
            if ledger and not os.path.exists(ledger.path):
                raise self._results_are_gone() from None
            raise
        finally:
            for note in mirrored.notes:
                print(f"MLflow: {note}")
            if not mirrored.complete:
                sync = command("sync", [name], self.results, self.tracking_uri)
                print(f"MLflow is behind the records (log: {mirrored.log}); complete it with: {sync}")

    def _results_are_gone(self) -> UserError:
        what = "the results folder is gone: while the sweep ran it was removed, renamed or unmounted"
        back = "put it back, and each cell goes on from its last checkpoint"
        return UserError(what, where=str(self.results.absolute()), next_command=f"{self.again}   ({back})")

    def _supervised(self, tasks: Sequence[Task], ledger: Ledger, progress: Progress) -> bool:
        scheduler = LocalScheduler(self.slots)
        if taken := scheduler.taken():
            print(f"{taken} of this machine's slots are taken by other sweeps; cells start as they become free")
        try:
            with contextlib.closing(scheduler), progress:
                watched = supervise(tasks, scheduler, ledger, progress.update)
        except Stopped as stopped:
            print(f"\nstopped; {stopped}. Go on with: {self.again}")
            raise typer.Exit(130) from None
        return self._account(watched, ledger)

    def _account(self, watched: Sequence[TaskState], ledger: Ledger) -> bool:
        """Say what has not finished, and what to type."""
        unfinished = [item for item in watched if not item.finished]
        if reason := ledger.stop_reason():
            print(f"The sweep was stopped: {reason}")
        failed = [item for item in unfinished if item.ended.startswith("FAILED")]
        if failed:
            why = command("status", [self.manifest.name, "state=failed"], self.results)
            print(f"Failed cells, their reasons and logs: {why}")
        if waiting := sum(item.ended == NOT_STARTED for item in unfinished):
            print(f"{count(waiting)} not started")
        if unfinished:
            print(f"{len(unfinished)} of {len(watched)} cells have not finished; go on with: {self.again}")
        return not unfinished
