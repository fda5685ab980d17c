"""What a machine or a cluster has or lacks, as ``harness doctor`` says it."""

from __future__ import annotations

from typing import NamedTuple


class Diagnosis(NamedTuple):
    """``mend`` is empty where all is well."""

    what: str
    found: str
    fix: str = ""
    needed: bool = True

    @property
    def failed(self) -> bool:
        return bool(self.fix) and self.needed
