"""One check of a machine or a cluster, as ``harness doctor`` prints it."""

from __future__ import annotations

from typing import NamedTuple


class Diagnosis(NamedTuple):
    """The result of one check.

    Attributes:
        what: what was checked.
        found: what was found.
        fix: what to change; empty if the check passed.
        needed: whether a sweep cannot run without it.
    """

    what: str
    found: str
    fix: str = ""
    needed: bool = True

    @property
    def failed(self) -> bool:
        """Whether a sweep would not run as things are."""
        return bool(self.fix) and self.needed
