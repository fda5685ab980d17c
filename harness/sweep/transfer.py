"""Records in one file: exported without checkpoints, imported elsewhere as they were.

An archive (tar.gz) holds ``runs/<cell_id>/`` and ``manifests/<name>.json`` as a results folder does, and nothing else.
Whatever an archive holds, an import overwrites nothing, writes nowhere but below ``runs`` and ``manifests``, and takes
all or nothing: everything is unpacked beside them and checked before the first record is renamed into its place.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.manifest import Manifest
from harness.record import Record, read_json

OF_RECORD = r"cell\.json|submission\.json|outcome\.json|evaluations/[0-9a-f]{12}\.json"
OF_ATTEMPT = r"provenance\.json|events\.jsonl|outcome\.json|stdout\.log|stderr\.log"
ENCODER = "encoder.safetensors"
NAME = r"[^./\\\0][^/\\\0]*"
#: What an archive may hold, files and folders.
FILE = re.compile(
    rf"runs/[0-9a-f]{{12}}/({OF_RECORD}|attempts/[1-9]\d*/({OF_ATTEMPT}|{re.escape(ENCODER)}))|manifests/{NAME}\.json"
)
FOLDER = re.compile(r"runs|manifests|runs/[0-9a-f]{12}(/evaluations|/attempts(/[1-9]\d*)?)?")
EXPORTED = re.compile(rf"{OF_RECORD}|attempts/[1-9]\d*/({OF_ATTEMPT})")
MOST_MEMBERS = 10_000_000


@dataclass
class Imported:
    """Cell ids and names of manifests: ``added``, and those that stand here already with the same or other content."""

    added: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def export(records: Iterable[Record], manifests: Sequence[Manifest], results: Path, to: Path, encoders: bool) -> None:
    """Write the archive; it is there once it is whole.

    Raises:
        UserError: there is such a file.
    """
    if to.exists():
        raise UserError("there is such a file already", where=str(to), allowed="another name")
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        # Hard links (a published outcome is one) and symbolic ones become files of their own.
        with tarfile.open(temporary, "w:gz", dereference=True, compresslevel=6) as archive:
            for record in records:
                for path in _exported(record, encoders):
                    archive.add(path, str(path.relative_to(results)), recursive=False, filter=_of_nobody)
            for manifest in manifests:
                name = f"manifests/{manifest.name}.json"
                archive.add(results / name, name, filter=_of_nobody)
        os.link(temporary, to)
    finally:
        temporary.unlink(missing_ok=True)


def _exported(record: Record, encoders: bool) -> Iterator[Path]:
    """Folders too: what an attempt's age is read from is when its folder changed."""
    yield record.path
    for path in sorted(record.path.rglob("*")):
        name = path.relative_to(record.path).as_posix()
        wanted = EXPORTED.fullmatch(name) or (encoders and path.name == ENCODER)
        if wanted or (path.is_dir() and FOLDER.fullmatch(f"runs/{record.cell_id}/{name}")):
            yield path


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose files they were is nobody's business elsewhere."""
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
        return _place(records, results / "runs"), _place(manifests, results / "manifests")


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:gz") as archive:
            _extract(archive, _checked(archive, file, shutil.disk_usage(folder).free), folder)
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
    """Its members, if they are what an export writes, and fit here."""
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
    """Files and folders with their times, and nothing else that an archive may say of them (modes, owners, links).

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
    """A record must be of the cell that it is named after, and its published outcome that of one of its attempts."""
    try:
        record.cell()
    except UserError:
        raise UserError(f"the cell of {record.cell_id} is another", where=str(file)) from None
    if not (record.path / "outcome.json").exists():
        return
    outcome = record.outcome() or {}
    attempt = record.path / "attempts" / str(outcome.get("attempt")) / "outcome.json"
    if outcome.get("state") != "finished" or read_json(attempt) != outcome:
        raise UserError(f"the outcome of {record.cell_id} is damaged", where=str(file))


def _place(paths: Sequence[Path], folder: Path) -> Imported:
    """Move records or manifests to where they belong, each at once, and none over another."""
    folder.mkdir(exist_ok=True)
    found = Imported()
    for path in paths:
        target = folder / path.name
        if not target.exists():
            path.rename(target)
            found.added.append(path.stem)
        else:
            (found.identical if _same(path, target) else found.different).append(path.stem)
    return found


def _same(imported: Path, here: Path) -> bool:
    """Whether every imported file is here with the same content."""
    files = [path for path in imported.rglob("*") if path.is_file()] if imported.is_dir() else [imported]
    return all(
        (there := here / path.relative_to(imported)).is_file() and filecmp.cmp(path, there, shallow=False)
        for path in files
    )
