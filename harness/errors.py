"""One family of user errors: what is wrong, where, what is allowed, and the next command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that its reader can mend; the command line prints it without a traceback.

    Args:
        what: what is wrong, in one clause.
        where: the place to look at, such as ``experiments/x.yaml:12: axes.batch_size``.
        allowed: what would have been right.
        next_command: what to type next.
    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", next_command: str = "") -> None:
        self.what = what
        self.where = where
        self.allowed = allowed
        self.next_command = next_command
        super().__init__(str(self))

    def __str__(self) -> str:
        what = shortened(self.what)
        lines = [f"{shortened(self.where)}: {what}" if self.where else what]
        if self.allowed:
            lines.append(f"  allowed: {shortened(self.allowed)}")
        if self.next_command:
            lines.append(f"  next:    {self.next_command}")
        return "\n".join(lines)


def shortened(text: str, most: int = 600) -> str:
    """What a file or a command line holds may be of any length, and must not push the rest off the screen."""
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, names: Iterable[str]) -> str:
    """A suggestion such as ``, did you mean 'batch_size'?``, or nothing where no name is near."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""
