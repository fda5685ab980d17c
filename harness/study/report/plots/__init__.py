"""The figures of a report: each has units, says what is missing, and can be read in grey and by the colour-blind."""

import os

from harness.errors import UserError

# Matplotlib reads its settings while it is imported. A notebook names a backend that a program does not have; figures
# are only written to files here. What else a user has set is put aside while figures are drawn (``style.styled``).
os.environ["MPLBACKEND"] = "agg"
try:
    import matplotlib  # noqa: F401
except (OSError, ValueError) as error:
    raise UserError(
        f"matplotlib cannot read its settings: {error}",
        where="a file matplotlibrc in the current folder, in MATPLOTLIBRC or in ~/.config/matplotlib",
        allowed="text in UTF-8",
    ) from None
