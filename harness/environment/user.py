"""The user that this process belongs to."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return the user's name; the number where the system knows none, as in a container with ``--user``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
