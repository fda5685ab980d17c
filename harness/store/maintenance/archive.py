"""Records in one file: exported without checkpoints, imported elsewhere as they were.

An archive (tar.gz) holds ``runs/<cell_id>/`` and ``manifests/<name>.json`` as a results folder does, and nothing else.
Whatever an archive holds, an import overwrites nothing, writes nowhere but below ``runs`` and ``manifests``, and takes
all or nothing: everything is unpacked beside them and checked before the first record is renamed into its place.

A cell that has finished there and not here is completed: what finished it there becomes a new attempt here, after those
that are here, which stay. It begins as any attempt does, so that no other process computes the cell then.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import DamagedFile, UserError
from harness.files import atomic_write, free_bytes, read_if_whole
from harness.manifest import Manifest
from harness.store.maintenance.repair import repair
from harness.store.outcome import Outcome
from harness.store.record import ENCODER_NAME, Attempt, Busy, Record, Superseded, added_evaluation

OF_RECORD = r"cell\.json|submission\.json|outcome\.json|evaluations/[0-9a-f]{12}\.json"
OF_ATTEMPT = r"provenance\.json|events\.jsonl|outcome\.json|stdout\.log|stderr\.log"
NAME = r"[^./\\\0][^/\\\0]*"
#: What an archive may hold, files and folders.
FILE = re.compile(
    rf"runs/[0-9a-f]{{12}}/({OF_RECORD}|attempts/[1-9]\d*/({OF_ATTEMPT}|{re.escape(ENCODER_NAME)}))|manifests/{NAME}\.json"
)
FOLDER = re.compile(r"runs|manifests|runs/[0-9a-f]{12}(/evaluations|/attempts(/[1-9]\d*)?)?")
EXPORTED = re.compile(rf"{OF_RECORD}|attempts/[1-9]\d*/({OF_ATTEMPT})")
MOST_MEMBERS = 10_000_000


@dataclass
class Imported:
    """What became of the records or manifests of an archive: their cell ids or names, by what was done.

    ``completed``: cells that had not finished here; ``running``: those that are being computed here.
    """

    added: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


def export(records: Iterable[Record], manifests: Sequence[Manifest], results: Path, to: Path, encoders: bool) -> None:
    """Write the archive, which exists once it is whole.

    Raises:
        UserError: there is such a file.
    """
    if to.exists():
        raise UserError("there is such a file already", where=str(to), allowed="another name")
    # Hard links (a published outcome is one) and symbolic ones become files of their own.
    with (
        atomic_write(to, "xb") as file,
        tarfile.open(fileobj=file, mode="w:gz", dereference=True, compresslevel=6) as archive,
    ):
        for record in records:
            for path in _exported(record, encoders):
                archive.add(path, str(path.relative_to(results)), recursive=False, filter=_without_owner)
        for manifest in manifests:
            name = f"manifests/{manifest.name}.json"
            archive.add(results / name, name, filter=_without_owner)


def _exported(record: Record, encoders: bool) -> Iterator[Path]:
    """Yield the paths of a record to export; folders too, because an attempt's age is when its folder changed."""
    yield record.path
    for path in sorted(record.path.rglob("*")):
        name = path.relative_to(record.path).as_posix()
        wanted = EXPORTED.fullmatch(name) or (encoders and path.name == ENCODER_NAME)
        if wanted or (path.is_dir() and FOLDER.fullmatch(f"runs/{record.cell_id}/{name}")):
            yield path


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the member without its owner: who that was concerns no other machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def import_(file: Path, results: Path) -> tuple[Imported, Imported]:
    """Add the records and manifests of an archive to those here.

    Raises:
        UserError: it is no archive of records, or a damaged one; nothing was imported.
    """
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results, prefix=".import.") as folder:
        unpacked = Path(folder)
        _unpack(file, unpacked)
        records = sorted((unpacked / "runs").iterdir()) if (unpacked / "runs").exists() else []
        manifests = sorted((unpacked / "manifests").iterdir()) if (unpacked / "manifests").exists() else []
        for path in records:
            _check(Record(path), file)
        for path in manifests:
            if Manifest.read(unpacked, path.stem).name != path.stem:
                raise UserError(f"the manifest of {path.stem} is another's", where=str(file))
        return _place_records(records, results / "runs"), _place_manifests(manifests, results / "manifests")


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:gz") as archive:
            _extract(archive, _checked(archive, file, free_bytes(folder)), folder)
            assert archive.fileobj
            while archive.fileobj.read(2**20):  # to the end, where the checksum stands
                pass
    except FileNotFoundError:
        raise UserError("no such file", where=str(file)) from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of this machine, not of the archive
            raise
        raise UserError(f"this is no whole archive of records ({error})", where=str(file)) from None


def _checked(archive: tarfile.TarFile, file: Path, free: int) -> list[tarfile.TarInfo]:
    """Return the archive's members, if an export writes such members and they fit on this disk."""
    members: list[tarfile.TarInfo] = []
    size = 0
    for member in archive:
        pattern = FOLDER if member.isdir() else FILE
        if not (member.isdir() or member.isreg()) or not pattern.fullmatch(member.name):
            raise UserError(f"it holds what no export writes: {member.name[:200]!r}", where=str(file))
        members.append(member)
        size += member.size
        if size > free or len(members) > MOST_MEMBERS:
            raise UserError(f"it holds more than fits here ({free / 2**30:.1f} GiB)", where=str(file))
    if len({member.name for member in members}) < len(members):
        raise UserError("it holds a file twice", where=str(file))
    return members


def _extract(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], folder: Path) -> None:
    """Write files and folders with their times, without what else an archive may hold of them (modes, owners, links).

    (Python's own filter for that is not there before 3.11.4.)
    """
    for member in members:
        path = folder / member.name
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if content := archive.extractfile(member):
            with content, path.open("wb") as target:
                shutil.copyfileobj(content, target)
    for member in members:
        os.utime(folder / member.name, (member.mtime, member.mtime))


def _check(record: Record, file: Path) -> None:
    """A record must be of the cell that it is named after, its published outcome that of one of its attempts, and its
    events a curve."""
    try:
        record.cell()
    except UserError:
        raise UserError(f"the cell of {record.cell_id} is another", where=str(file)) from None
    if not (record.path / "outcome.json").exists():
        return
    outcome = read_if_whole(record.outcome_file, Outcome.from_json)
    whole = outcome and outcome.attempt > 0 and Attempt(record, outcome.attempt).outcome() == outcome
    if not (outcome and outcome.finished and whole):
        raise UserError(f"the outcome of {record.cell_id} is damaged", where=str(file))
    try:
        record.curve(outcome)
    except DamagedFile:
        raise UserError(f"the curve of {record.cell_id} is damaged", where=str(file)) from None
    try:
        record.whole_encoder()
    except DamagedFile:
        raise UserError(f"the encoder of {record.cell_id} is damaged", where=str(file)) from None


def _place_records(paths: Sequence[Path], runs: Path) -> Imported:
    """Move records to where they belong, each at once, and none over another."""
    runs.mkdir(exist_ok=True)
    report = Imported()
    for path in paths:
        here, imported = Record(runs / path.name), Record(path)
        if not here.path.exists():
            path.rename(here.path)
            report.added.append(path.name)
        elif _same(path, here.path) or _same_result(imported, here):
            report.identical.append(path.name)
        elif imported.outcome() and here.state() != "finished":
            getattr(report, _complete(imported, here)).append(path.name)
        else:
            report.different.append(path.name)
    return report


def _place_manifests(paths: Sequence[Path], folder: Path) -> Imported:
    folder.mkdir(exist_ok=True)
    report = Imported()
    for path in paths:
        target = folder / path.name
        if not target.exists():
            path.rename(target)
            report.added.append(path.stem)
        else:
            same = filecmp.cmp(path, target, shallow=False)
            (report.identical if same else report.different).append(path.stem)
    return report


def _complete(imported: Record, here: Record) -> str:
    """Move what finished the cell there into a new attempt here; return its field of ``Imported``."""
    theirs, outcome = _finished(imported)
    before = theirs.outcome()
    try:
        repair(here, imported.cell())
        attempt = Record.prepare(here.path.parent, imported.cell()).begin()
    except Busy:
        return "different" if here.state() == "finished" else "running"
    # Of all its attempts: the last one did not begin at the first step if it went on from a checkpoint.
    curve = "".join(f"{json.dumps(event.to_json())}\n" for event in imported.events())
    attempt.events_file.write_text(curve, encoding="utf-8")
    for path in theirs.path.iterdir():
        if path not in (theirs.events_file, theirs.outcome_file):
            path.replace(attempt.path / path.name)
    for path in (imported.path / "evaluations").glob("*.json"):
        if added := read_if_whole(path, added_evaluation):
            here.add_evaluation(path.stem, added)
    try:
        attempt.end(replace(outcome, files=attempt.checksums() if before and before.files else {}))
    except Superseded:  # another process has begun the cell, because this took minutes
        return "different" if here.state() == "finished" else "running"
    return "completed"


def _finished(record: Record) -> tuple[Attempt, Outcome]:
    """The published attempt of a finished record, and how it ended but for its number and its files."""
    outcome = record.outcome()
    assert outcome
    return Attempt(record, outcome.attempt), replace(outcome, attempt=0, files={})


def _same(imported: Path, here: Path) -> bool:
    """Whether each imported file exists here with the same content."""
    files = [path for path in imported.rglob("*") if path.is_file()]
    return all(_same_file(path, here / path.relative_to(imported)) for path in files)


def _same_result(imported: Record, here: Record) -> bool:
    """Whether the cell has finished in both with the same outcome and curve: as where it was completed before."""
    if not imported.outcome() or here.state() != "finished":
        return False
    (_, theirs), (attempt, mine) = _finished(imported), _finished(here)
    added = (imported.path / "evaluations").glob("*.json")
    return (
        mine == theirs
        and list(attempt.events()) == imported.events()
        and all(here.added_evaluation(path.stem) == imported.added_evaluation(path.stem) for path in added)
    )


def _same_file(imported: Path, here: Path) -> bool:
    return here.is_file() and filecmp.cmp(imported, here, shallow=False)
