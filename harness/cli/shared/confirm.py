"""Asking before something costs much or cannot be undone."""

from __future__ import annotations

import sys

import typer

from harness.errors import UserError


def confirm(question: str, yes: bool, again: str) -> None:
    """Ask on a terminal; go on at once with ``yes`` (--yes); ``again`` is the command without it.

    Raises:
        UserError: there is nobody to ask.
        typer.Exit: the answer was no; nothing has been done.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        what = f"{question} Standard input is no terminal, so the question cannot be asked"
        raise UserError(what, where="standard input", next_command=f"{again} --yes")
    if not typer.confirm(question):
        print("Nothing was done.")
        raise typer.Exit(1)
