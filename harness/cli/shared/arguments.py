"""Arguments that several verbs share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from harness.errors import UserError
from harness.sweep.tracking.tracking_uri import VARIABLE, public, with_secret

Experiment = Annotated[
    str, typer.Argument(help="An experiment file, such as experiments/dcl_batchsize.yaml.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hydra overrides: scale=laptop dataset=fashion_mnist 'axes.batch_size=[32,256]' optimizer.lr=0.1",
        show_default=False,
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file of your own losses, to be named on the axis loss; may be repeated."),
]


def _resolve_secret(context: typer.Context, parameter: typer.CallbackParam, uri: str) -> str:
    """Return the URI with the password that the environment has for it; warn of a password on the command line.

    Raises:
        UserError: it is no address.
    """
    try:
        _ = urlsplit(public(uri)).port
    except ValueError as error:
        allowed = "such as http://HOST:5000, postgresql://USER@HOST/DATABASE, sqlite:////FOLDER/mlflow.db"
        raise UserError(f"{public(uri)} is no address: {error}", where="--tracking-uri", allowed=allowed) from None
    given = context.get_parameter_source(parameter.name or "")
    if given is not None and given.name == "COMMANDLINE" and uri != public(uri):
        print(
            f"warning: everybody on this machine can read the password in --tracking-uri; set {VARIABLE} to the whole "
            f"address instead, and give --tracking-uri {public(uri)}, or nothing",
            file=sys.stderr,
        )
    complete = with_secret(uri)
    os.environ.pop(VARIABLE, None)  # cells and jobs, which may run a user's code, do not get it
    return complete


def tracking_option(text: str) -> Any:
    """Return the option for the URI of a tracking store, with this help text."""
    return typer.Option(help=text, envvar=VARIABLE, callback=_resolve_secret, show_envvar=True)


TrackingUri = Annotated[str, tracking_option("An MLflow tracking URI; by default sqlite in the results folder.")]
RerunStale = Annotated[
    bool,
    typer.Option("--rerun-stale", help="Treat stale cells, trained by older code of a component, as missing."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Results = Annotated[Path, typer.Option(help="The folder of records, manifests and tables.")]


def command(
    verb: str, words: Sequence[str], results: Path, tracking_uri: str = "", plugins: Sequence[Path] = ()
) -> str:
    """The command to type next, quoted for a shell, without the password of a tracking URI."""
    folder = [] if results == Path("results") else ["--results", str(results)]
    store = ["--tracking-uri", public(tracking_uri)] if tracking_uri else []
    own = [word for file in plugins for word in ("--plugin", str(file))]
    return shlex.join(["harness", verb, *words, *folder, *store, *own])
