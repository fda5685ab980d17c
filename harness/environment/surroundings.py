"""What a shell or a job leaves to a process, made fit for harness and for the processes that it starts."""

from __future__ import annotations

import io
import os
import sys
import warnings

from harness.files import cache_folder

#: Variables of Python that are meant for a user's own programs: they make errors of warnings, leave out assertions, or
#: open a prompt at the end.
OF_OTHER_PROGRAMS = ("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT")
#: Variables of a launcher (torchrun, a platform's operator) which would make a cell wait for other ranks.
OF_OTHER_LAUNCHERS = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
#: The warnings that Python does not show unless it is asked to.
HIDDEN_BY_PYTHON = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
#: Fewer columns than these are no terminal's: a table would have no room, and at 0 nothing is printed at all.
FEWEST_COLUMNS = 20


def make_fit() -> None:
    """Make this process independent of how it was started; for the program itself, not for a library."""
    _open_standard_files()
    if "PYTHONWARNINGS" in os.environ:
        warnings.resetwarnings()
        for category in HIDDEN_BY_PYTHON:
            warnings.simplefilter("ignore", category)
    for name in (*OF_OTHER_PROGRAMS, *OF_OTHER_LAUNCHERS):
        os.environ.pop(name, None)
    if not os.path.isabs(os.path.expanduser("~")):  # without a home some libraries cannot even be imported
        os.environ["HOME"] = str(cache_folder())
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) < FEWEST_COLUMNS:  # some terminals and job systems say 0
        del os.environ["COLUMNS"]
    # What cannot be printed in the terminal's encoding must not end a program: its exit code would look like an answer.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"


def _open_standard_files() -> None:
    """Open what a shell has closed (``>&-``): the next file that is opened would be taken for the standard output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    streams = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
    for number, (name, mode) in enumerate(streams):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
