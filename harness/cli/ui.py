"""``harness ui``: MLflow's page."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import json_process
from harness.cli.shared.arguments import Results, command
from harness.errors import UserError
from harness.sweep.tracking.tracking_uri import ARTIFACTS, default_uri


def ui(
    results: Results = Path("results"),
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow page of the results.

    The page is served on 127.0.0.1 until you press Ctrl-C.
    """
    if not (results / "mlflow.db").exists():
        raise UserError(
            f"nothing has been mirrored into {results}/ yet",
            next_command="harness sweep experiments/dcl_batchsize.yaml",
        )
    from harness.sweep.tracking import embedded_store

    store = (results / "mlflow.db").resolve()
    try:
        why = embedded_store.problem(store)
    except sqlite3.Error as error:
        why = str(error)
    if why:  # MLflow would begin to create it, or to change its schema, without the lock of its writers
        sync = command("sync", [], results)
        raise UserError(f"MLflow cannot open its store: {why}", where=str(store), next_command=sync)
    if embedded_store.artifact_locations(store) - {(results / ARTIFACTS).resolve().as_uri()}:
        sync = command("sync", [], results)
        print(f"the results were moved or copied: MLflow shows files such as tables after {sync}")
    print(f"MLflow's page: http://127.0.0.1:{port}  (Ctrl-C ends it)", flush=True)
    place = ["--backend-store-uri", default_uri(results), "--default-artifact-root", str(results / ARTIFACTS)]
    page = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # One reader needs one worker and none of the eight processes of the server's job queue.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, json_process.command("mlflow", "ui", *place, *page), environment)
