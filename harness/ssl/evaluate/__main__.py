"""``python -m harness.ssl.evaluate``: evaluate finished records again, all in one process.

Reads ``{threads, device, evaluation, cells: [{record, dataset, root}, ...]}`` from standard input; prints one line of
JSON for each cell: ``{cell_id, metrics, seconds}`` or ``{cell_id, error}``. A cell that fails does not stop the others.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness import json_process
from harness.cell import Dataset, from_dict
from harness.errors import UserError
from harness.evaluation import Evaluation
from harness.ssl.data import sources
from harness.ssl.data.split import Data
from harness.ssl.distributed import own_device
from harness.ssl.evaluate.reevaluate import evaluate_again
from harness.ssl.runtime.malloc import keep_freed_memory
from harness.store.record import Record
from harness.trees import Node


def answer(request: dict[str, Any]) -> Iterator[dict[str, Node]]:
    """Evaluate the cells of the request one after another."""
    torch.set_num_threads(request["threads"])
    keep_freed_memory()
    device = own_device(request["device"])
    evaluation = from_dict(Evaluation, request["evaluation"])

    @functools.lru_cache(maxsize=1)  # cells of one experiment share their data
    def data(dataset: Dataset, root: str | None) -> Data:
        return sources.load(dataset, root).to(device)

    for cell in request["cells"]:
        record, dataset = Record(Path(cell["record"])), from_dict(Dataset, cell["dataset"])
        submission = {**request, "cells": [cell]}
        result: dict[str, Node]
        try:
            images = data(dataset, cell["root"])
            metrics, seconds = evaluate_again(record, evaluation, dataset, images, device, submission)
            result = {"metrics": metrics, "seconds": seconds}
        except UserError as error:
            result = {"error": str(error)}
        except Exception as error:  # noqa: BLE001  (whatever it is, the other cells are evaluated)
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}"}
        yield {"cell_id": record.cell_id, **result}


if __name__ == "__main__":
    json_process.serve(answer)
