"""The images of a folder that has a subfolder for each class: what is read, and what is left out.

The rules are those of torchvision's ``ImageFolder``: its endings are read, and images in subfolders of a class folder
belong to the class. Beyond them, hidden files and what systems write (``.DS_Store``, ``Thumbs.db``) are no data. What
is left out is listed, because fewer images than the user believes give the numbers of another data set.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from harness.datasets.base import DatasetMissing
from harness.errors import UserError, printable, quoted

#: The endings that torchvision reads, and GIF's.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
#: What file managers and systems put into folders, in small letters; their other names begin with a dot.
LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found", "$recycle.bin"}
#: The names of the folder of held-out images; the first one that has a class of the training images is read.
HELD_OUT = ("test", "val", "valid", "validation")
LAYOUT = "FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg (or val/, valid/ or validation/ for test/)"

#: The reasons for which something is left out.
HIDDEN = "hidden or written by the system"
OTHER_ENDING = "of other endings"
OUTSIDE = "images outside of the class folders"
NO_IMAGES = "class folders without images"
CIRCULAR = "links that lead back to a folder above"
NOWHERE = "links that lead nowhere"
REASONS = (HIDDEN, OTHER_ENDING, OUTSIDE, NO_IMAGES, CIRCULAR, NOWHERE)
#: How many of the names are listed.
LISTED = 3


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their labels; a label is the place of a class among the classes of the training images."""

    paths: list[Path]
    labels: list[int]


@dataclass(frozen=True)
class ImageFiles:
    """The files of an image folder; ``notes``: sentences about what is left out, and how the layout was understood."""

    train: LabelledFiles
    test: LabelledFiles
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SplitFolder:
    """The folder ``train``, ``test``, ... and what it holds.

    Args:
        folder: its path.
        images: the paths of each class, both sorted by name. A class is named in Unicode's composed form, because some
            systems store an accent as a character of its own.
        left_out: the paths of what is not read, by the reason.
        subfolders: the folders below class folders that have images.
    """

    folder: Path
    images: dict[str, list[Path]] = field(default_factory=dict)
    left_out: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    subfolders: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> SplitFolder:
        """List the folder, in one pass; one that does not exist has no images.

        Raises:
            UserError: two class folders have one name, but for the form in which its accents are stored.
        """
        split = cls(folder)
        for entry in _entries(folder) if folder.is_dir() else ():
            if reason := _reason_to_skip(entry):
                split.left_out[reason].append(entry.path)
            elif _is_folder(entry):
                split._add_class(entry)
            else:
                split.left_out[OUTSIDE].append(entry.path)
        return split

    @property
    def name(self) -> str:
        """The folder's name, as messages show it."""
        return f"{self.folder.name}/"

    @property
    def paths(self) -> list[Path]:
        """Return all images, sorted by class and name."""
        return [path for paths in self.images.values() for path in paths]

    def labelled(self, labels: dict[str, int]) -> LabelledFiles:
        """Return the files in their order with the labels of their classes."""
        return LabelledFiles(self.paths, [labels[name] for name, paths in self.images.items() for _ in paths])

    def _add_class(self, entry: os.DirEntry[str]) -> None:
        name = _composed(entry.name)
        paths = [Path(path) for path in self._images_below(entry.path)]
        if not paths:
            self.left_out[NO_IMAGES].append(entry.path)
            return
        if name in self.images:
            raise UserError(
                f"two class folders are called {name}, and only the form in which accents are stored differs",
                where=str(self.folder),
                allowed="one folder for each class",
                next_command=f"ls -b {quoted(self.folder)}   (shows both; move the images of one to the other)",
            )
        self.images[name] = paths

    def _images_below(self, folder: str) -> Iterator[str]:
        for entry in _entries(folder):
            # The ending is asked first: some file systems need a call to tell folders from files.
            if _is_image(entry.name) and not _is_litter(entry.name):
                yield entry.path
            elif reason := _reason_to_skip(entry):
                self.left_out[reason].append(entry.path)
            elif images := list(self._images_below(entry.path)):
                self.subfolders.append(entry.path)
                yield from images


def scan(root: Path) -> ImageFiles:
    """Return the images of the folder, and sentences about all that is left out.

    Raises:
        DatasetMissing: there are no training images, or no held-out ones.
        UserError: the held-out images have a class that the training images do not have.
    """
    train = SplitFolder.read(root / "train")
    if not train.images:
        raise _missing(root, f"{root} has no training images: {_contents(train)}")
    held_out, passed_over = _held_out(root, train)
    if unknown := sorted(held_out.images.keys() - train.images.keys()):
        raise UserError(
            f"{held_out.name} has classes that train/ does not have: {', '.join(unknown[:5])}",
            where="dataset.root",
            allowed=", ".join(sorted(train.images)[:10]),
            next_command=f"ls -b {quoted(train.folder)} {quoted(held_out.folder)}",
        )
    labels = {name: label for label, name in enumerate(train.images)}
    notes = [
        *(f"{held_out.name} is read instead of {other.name}: {_contents(other, train)}" for other in passed_over),
        *_other_folders(root, [train, held_out, *passed_over]),
        *_about(root, train, held_out),
    ]
    return ImageFiles(train.labelled(labels), held_out.labelled(labels), tuple(map(printable, notes)))


def _held_out(root: Path, train: SplitFolder) -> tuple[SplitFolder, list[SplitFolder]]:
    """Return the folder of held-out images, and those that come before it but have no class of the training images."""
    passed_over: list[SplitFolder] = []
    for name in HELD_OUT:
        if (root / name).is_dir():
            split = SplitFolder.read(root / name)
            if split.images.keys() & train.images.keys():
                return split, passed_over
            passed_over.append(split)
    why = (
        "; ".join(_contents(split, train) for split in passed_over) or "there is no test/, val/, valid/ or validation/"
    )
    raise _missing(root, f"{root} has {len(train.paths):,} training images, but no held-out ones: {why}")


def _missing(root: Path, what: str) -> DatasetMissing:
    """Return the error; the next command is one for a folder that is one level too high, or is sorted by a list."""
    inside = [entry.name for entry in _entries(root) if not _is_litter(entry.name)] if root.is_dir() else []
    found = f"; the folder holds {_some(inside)}" if inside else ""
    deeper = [name for name in inside if (root / name / "train").is_dir()]
    next_command = f"dataset.root={quoted(root / deeper[0])}" if deeper else f"ls -R {quoted(root)}"
    if (root / "val" / "val_annotations.txt").is_file():  # Tiny ImageNet, as it is unpacked
        next_command = (
            f"cd {quoted(root / 'val')} && while read -r file class _; do mkdir -p $class && "
            "mv images/$file $class/; done < val_annotations.txt"
        )
    return DatasetMissing(what + found, where="dataset.root", allowed=LAYOUT, next_command=next_command)


def _contents(split: SplitFolder, train: SplitFolder | None = None) -> str:
    """Say what the folder has in place of classes, or of classes of the training images."""
    if not split.folder.is_dir():
        return f"there is no {split.name}"
    if train and split.images:
        return f"{split.name} has only classes that train/ does not have: {_some(sorted(split.images))}"
    left_out = ", ".join(f"{reason}: {len(paths):,}" for reason, paths in split.left_out.items())
    return f"{split.name} has no class folder with images" + (f" ({left_out})" if left_out else "")


def _other_folders(root: Path, known: Sequence[SplitFolder]) -> Iterator[str]:
    names = {split.folder.name for split in known}
    others = [entry.name for entry in _entries(root) if entry.name not in names and not _is_litter(entry.name)]
    if folders := [f"{name}/" for name in others if (root / name).is_dir()]:
        yield f"only {' and '.join(split.name for split in known[:2])} are read, not {_some(folders)}"


def _about(root: Path, train: SplitFolder, held_out: SplitFolder) -> Iterator[str]:
    """Yield a sentence for each reason for which something was left out, and one about subfolders of class folders."""
    for reason in REASONS:
        if paths := train.left_out[reason] + held_out.left_out[reason]:
            endings = (
                Counter(Path(path).suffix or "no ending" for path in paths) if reason == OTHER_ENDING else Counter()
            )
            counts = "".join(f"{ending} {count:,}, " for ending, count in endings.most_common())
            yield f"{len(paths):,} left out, {reason}: {counts}{_some(_relative(paths, root))}"
    if below := train.subfolders + held_out.subfolders:
        yield f"images in {len(below):,} subfolders of class folders are read, too: {_some(_relative(below, root))}"


def _relative(paths: Sequence[str], root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in paths[: LISTED + 1]]


def _some(names: Sequence[str]) -> str:
    """Return the first names, and dots where there are more."""
    return ", ".join([*names[:LISTED], *(["..."] if len(names) > LISTED else [])])


def not_copied(folder: str, names: Sequence[str]) -> set[str]:
    """Return the names in a folder that a copy of a data set needs no more than its reader does."""
    return {name for name in names if _is_litter(name) or _leads_back(Path(folder, name))}


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except OSError as error:
        raise UserError(
            f"the folder cannot be listed: {error.strerror}",
            where=str(folder),
            allowed="folders that you may read",
            next_command=f"ls -ld {quoted(folder)}",
        ) from None


def _reason_to_skip(entry: os.DirEntry[str]) -> str:
    """Return why an entry is left out; an empty text for images and folders."""
    if _is_litter(entry.name):
        return HIDDEN
    if _is_folder(entry):
        return CIRCULAR if _leads_back(Path(entry.path)) else ""
    if _is_image(entry.name):
        return ""
    return OTHER_ENDING if os.path.exists(entry.path) else NOWHERE


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _composed(name: str) -> str:
    """Return the name with each accent in one character; the bytes of a name are UTF-8 in every locale."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "surrogateescape"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads_back(path: Path) -> bool:
    return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path))
