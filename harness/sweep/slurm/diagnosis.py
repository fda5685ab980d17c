"""What a machine or a cluster has or lacks, as ``harness doctor`` says it."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """``mend`` is empty where all is well."""

    what: str
    found: str
    mend: str = ""
    needed: bool = True

    @property
    def lack(self) -> bool:
        return bool(self.mend) and self.needed
