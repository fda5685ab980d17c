"""The ledger of a sweep: whether it is alive, how its cells failed, and whether more of them may start.

::

    results/sweeps/<experiment>.<scale>.<n>/
        sweep.json               who runs it, and its policy
        manifest.json            what it was declared to run
        heartbeat                touched while a process supervises it
        failures/<cell_id>.json  cause and error of a cell's last failure
        finished                 there once any cell has finished
        stopped.json             why no more cells start

Every job reads the ledger before it begins and adds to it when it ends. So a sweep is stopped for all its jobs,
wherever they wait, and no process has to stay alive for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.environment.process import ProcessIdentity
from harness.errors import DamagedFile
from harness.files import Json, make_folder, read_as, read_if_whole, remove, write_json
from harness.store.signs_of_life import age, file_system_time, is_recent
from harness.trees import Node
from harness.types_of import check_types


@dataclass(frozen=True)
class Policy:
    """The rules by which a sweep tries cells again and stops, as its experiment declares it below ``failures``.

    ``retries``: how often a cell is tried again after an error; ``max_failures``: once so many cells have failed, no
    more start (None: there is no such limit); ``max_identical_failures``: once so many cells have failed with the same
    error before any has finished, no more start.
    """

    retries: int = 1
    max_failures: int | None = None
    max_identical_failures: int = field(default=3, metadata={"key": "alike"})

    def to_json(self) -> dict[str, Node]:
        """Return the policy under the keys of ``failures:`` in an experiment."""
        return {declared_key(item): getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Policy:
        """The policy that an experiment declares or a sweep has written down; absent keys get their defaults."""
        keys = {declared_key(item): item.name for item in fields(cls)}
        return cls(**{name: content[key] for key, name in keys.items() if key in content})


def declared_key(item: Field[Any]) -> str:
    """The key of a field in YAML and JSON, where that is not the field's name."""
    return str(item.metadata.get("key", item.name))


@dataclass(frozen=True)
class Failure:
    """A cell's last failure; ``cause``: error, diverged, out_of_memory or killed; ``final``: it is not tried again."""

    cell_id: str
    cause: str
    error: str
    final: bool

    @property
    def kind(self) -> str:
        """The error without its numbers, so that two cells that diverge at other steps have the same."""
        return re.sub(r"\d[\d.e+-]*", "#", self.error)


@dataclass(frozen=True)
class Ledger:
    """The folder of one sweep; cheap to construct, reads nothing until asked."""

    path: Path

    @classmethod
    def open(cls, results: Path, name: str, policy: Policy, **facts: Any) -> Ledger:
        """Make a new folder ``<name>.<n>`` for the sweep that this process begins."""
        folder = results / "sweeps"
        folder.mkdir(parents=True, exist_ok=True)
        taken = [path.suffix[1:] for path in folder.glob(f"{name}.*") if path.suffix[1:].isdigit()]
        number = max(map(int, taken), default=0) + 1
        while True:
            try:
                (folder / f"{name}.{number}").mkdir()
                break
            except FileExistsError:  # another sweep began at the same moment
                number += 1
        ledger = cls(folder / f"{name}.{number}")
        (ledger.path / "failures").mkdir()
        ledger.beat()
        holder = {
            **vars(ProcessIdentity.current()),
            "started": file_system_time(folder),
            "policy": policy.to_json(),
            **facts,
        }
        write_json(ledger.path / "sweep.json", holder)
        return ledger

    @classmethod
    def all_of(cls, results: Path, name: str) -> list[Ledger]:
        """The sweeps of an experiment at a scale, first to last."""
        folders = [path for path in (results / "sweeps").glob(f"{name}.*") if path.suffix[1:].isdigit()]
        return [cls(path) for path in sorted(folders, key=lambda path: int(path.suffix[1:])) if path.stem == name]

    @property
    def manifest(self) -> Path:
        """The file of the manifest with which the sweep began."""
        return self.path / "manifest.json"

    def policy(self) -> Policy:
        """Return how the sweep treats failures; the defaults where its file is damaged."""
        return Policy.from_json(self.facts().get("policy", {}))

    def facts(self) -> Mapping[str, Any]:
        """Return who runs the sweep, and its policy; nothing where the file is damaged: no result depends on it."""
        return read_if_whole(self.path / "sweep.json", _facts) or {}

    def damages(self) -> Iterator[DamagedFile]:
        """Yield the damaged files of the ledger, or its folder, where something else lies in its place."""
        if self.path.exists() and not self.path.is_dir():
            yield DamagedFile(self.path, "it is no folder")
            return
        failures = self.path / "failures"
        if failures.exists() and not failures.is_dir():
            yield DamagedFile(failures, "it is no folder")
        files = [(self.path / "sweep.json", _facts), (self.path / "stopped.json", _reason)]
        for path, build in [*files, *((path, _failure(path.stem)) for path in self._failure_files())]:
            try:
                read_as(path, build)
            except DamagedFile as damaged:
                yield damaged

    @property
    def host(self) -> str | None:
        """The machine of the process that began the sweep."""
        return ProcessIdentity.from_json(self.facts()).host

    def beat(self) -> None:
        """Show that a process supervises the sweep: a heartbeat that stops moving means that it died."""
        (self.path / "heartbeat").touch()

    def alive(self) -> bool:
        """Whether a process supervises the sweep: the heartbeat moved, and on this machine the process exists."""
        return is_recent(self.age()) and ProcessIdentity.from_json(self.facts()).exists()

    def age(self) -> float | None:
        """Return how many seconds ago the heartbeat moved, less than 0 in the future; None once the sweep has ended."""
        return age(self.path / "heartbeat", self.path.parent)

    def close(self) -> None:
        """Remove the heartbeat: no process supervises the sweep any more."""
        remove(self.path / "heartbeat")

    def finished(self, cell_id: str) -> None:
        """Write down that a cell has finished: an earlier failure of it no longer counts."""
        (self.path / "finished").touch()
        self.clear_failure(cell_id)

    def clear_failure(self, cell_id: str) -> None:
        """Forget the cell's failure: the cell did not cause it, or a retry has finished the cell."""
        remove(self.path / "failures" / f"{cell_id}.json")

    def failed(self, cell_id: str, cause: str, error: str, final: bool) -> None:
        """Write down a failure; ``final``: the cell is not tried again."""
        make_folder(self.path / "failures")
        write_json(self.path / "failures" / f"{cell_id}.json", {"cause": cause, "error": error, "final": final})

    def failures(self) -> list[Failure]:
        """Return the failures that count, sorted by cell id; damaged files are passed over."""
        failures = (read_if_whole(path, _failure(path.stem)) for path in self._failure_files())
        return [failure for failure in failures if failure]

    def _failure_files(self) -> list[Path]:
        """Return the files of failures; none where the ledger has lost their folder."""
        return sorted(path for path in (self.path / "failures").glob("*.json") if not path.name.startswith("."))

    def stop(self, reason: str) -> None:
        """Start no more cells of this sweep."""
        write_json(self.path / "stopped.json", {"reason": reason})

    def stop_reason(self) -> str:
        """Return why no more cells of this sweep may start; empty while they may."""
        try:
            if stopped := read_as(self.path / "stopped.json", _reason):
                return stopped
        except DamagedFile as damaged:  # it was stopped, whatever for
            return damaged.sentence
        failures, policy = self.failures(), self.policy()
        final = sum(failure.final for failure in failures)
        if policy.max_failures is not None and final >= policy.max_failures:
            return f"{final} cells have failed (failures.max_failures is {policy.max_failures})"
        identical = len({failure.kind for failure in failures}) == 1
        if identical and len(failures) >= policy.max_identical_failures and not (self.path / "finished").exists():
            return f"the first {len(failures)} cells all failed alike: {failures[0].error}"
        return ""


def _facts(content: Json) -> Json:
    """Return what sweep.json holds, if it has the content that is read of it."""
    check_types(ProcessIdentity.from_json(content))
    check_types(Policy.from_json(content.get("policy", {})))
    return content


def _reason(content: Json) -> str:
    return str(content["reason"])


def _failure(cell_id: str) -> Callable[[Json], Failure]:
    return lambda content: Failure(cell_id, **content)
