"""One family of user errors: what is wrong, where, what is allowed, and the next command."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can correct; the command line prints it without a traceback.

    Args:
        what: what is wrong, in one clause.
        where: the place to look at, such as ``experiments/x.yaml:12: axes.batch_size``.
        key: the dotted key of a declaration that is wrong, where its place is not known yet; see ``located``.
        allowed: what would have been right.
        next_command: what to type next.
    """

    def __init__(self, what: str, *, where: str = "", key: str = "", allowed: str = "", next_command: str = "") -> None:
        self.what = printable(what)
        self.where = printable(where)
        self.key = key
        self.allowed = printable(allowed)
        self.next_command = printable(next_command)
        super().__init__(self.what)

    def __str__(self) -> str:
        what = shortened(self.what)
        lines = [f"{shortened(self.where)}: {what}" if self.where else what]
        if self.allowed:
            lines.append(f"  allowed: {shortened(self.allowed)}")
        if self.next_command:
            lines.append(f"  next:    {self.next_command}")
        return "\n".join(lines)


class DamagedFile(UserError):
    """A file of the results that is there and is not what was written: cut, changed, or of the wrong kind.

    It concerns the cell or the sweep that it belongs to and nothing else: who reads many of them goes on with the
    others, and says which one this is.
    """

    def __init__(self, path: Path, why: str = "", next_command: str = "", what: str = "the file is damaged") -> None:
        super().__init__(f"{what}: {why}" if why else what, where=str(path), next_command=next_command)
        self.path = path

    @property
    def sentence(self) -> str:
        """What is wrong and where, in one line."""
        return f"{shortened(self.where)}: {shortened(self.what)}"


class UnreadableFile(DamagedFile):
    """A file of the results that this process cannot read now, so that nothing is known of its bytes.

    It is named as a damaged one is; it is never set aside, and no result is computed anew because of it.
    """

    #: What its sentence contains and that of a damaged file does not, for readers that have the sentence only.
    WHAT = "the file cannot be read now"

    def __init__(self, path: Path, why: str, next_command: str) -> None:
        super().__init__(path, why, next_command, what=self.WHAT)

    @property
    def sentence(self) -> str:
        """What is wrong, where, and what to do, in one line."""
        return f"{super().sentence}; next: {self.next_command}"


@contextmanager
def below(key: str) -> Iterator[None]:
    """Put ``key`` in front of the key of a UserError that is raised within: ``arms`` becomes ``claims[0].arms``."""
    try:
        yield
    except UserError as error:
        dot = "." if key and error.key and not error.key.startswith("[") else ""
        error.key = f"{key}{dot}{error.key}"
        raise


@contextmanager
def located(place: Callable[[str], str]) -> Iterator[None]:
    """Give a UserError that is raised within its place, if it has none: ``place`` finds it by the error's key."""
    try:
        yield
    except UserError as error:
        error.where = error.where or place(error.key)
        raise


def shortened(text: str, most: int = 600) -> str:
    """Return the text, cut at ``most`` letters, so that a long value does not push the rest off the screen."""
    return text if len(text) <= most else f"{text[:most]}..."


def printable(text: str) -> str:
    """Return the text with the bytes of file names that are no UTF-8 as ``\\xe9``, because no stream takes them."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def quoted(path: Path | str) -> str:
    """Return the path as a word for bash, also where it is no UTF-8."""
    text = str(path)
    if text == printable(text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return printable(f"$'{escaped}'")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a suggestion such as ``, did you mean 'batch_size'?``, or nothing where no name is near."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""
