"""Random draws as pure functions of what they are for.

Every draw has its own stream keyed by (seed, purpose, counters such as epoch and view); a sample's draw is the
sample's row. So no draw depends on the loss, the world size, or how much randomness was used before, and arms that
differ only in the loss see identical views. The generator is Philox, which is counter-based (Salmon et al. 2011).
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator of one purpose, such as ``stream(seed, "views", epoch, view)``.

    A purpose always has the same number of counters: a seed sequence pads with zeros, so ("order",) is ("order", 0).
    """
    key = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *counters])
    return np.random.Generator(np.random.Philox(key))


def permutation(seed: int, purpose: str, count: int, *counters: int) -> npt.NDArray[np.int64]:
    """Return a random order of ``range(count)``.

    It sorts uniform draws, whose stream numpy keeps stable between releases.
    """
    return np.argsort(stream(seed, purpose, *counters).random(count), kind="stable")
