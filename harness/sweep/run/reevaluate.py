"""Evaluations that are added to finished records. One process computes them, so torch and the data load once."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness import datasets, json_process
from harness.cell import Cell, Dataset
from harness.datasets import DATASETS, DatasetFiles, DatasetMissing, FixedDataset, ImageFolder
from harness.errors import UserError, located
from harness.evaluation import Evaluation
from harness.store.record import Record
from harness.sweep.expand.validate import check_backbone, check_evaluation
from harness.sweep.run.slots import Slots


@dataclass(frozen=True)
class OtherDataset:
    """A data set to evaluate on that is not the cells' own."""

    name: str
    root: str | None
    files: DatasetFiles

    @classmethod
    def find(cls, name: str, root: str | None) -> OtherDataset:
        """Return the data set of this name with its files located below ``root``.

        Raises:
            UserError: there is no such data set, or it is not on this machine.
        """
        datasets.named(name, where="--dataset")
        return cls(name, root, _find(name, root))

    def like(self, trained_on: Dataset) -> Dataset:
        """Return this data set in the size of the images that a cell was trained on, or in its own fixed size."""
        entry = DATASETS[self.name]
        size = entry.image_size if isinstance(entry, FixedDataset) else trained_on.image_size
        return replace(trained_on, name=self.name, image_size=size, fingerprint=self.files.fingerprint)


@dataclass(frozen=True)
class EvaluationTask:
    """One record to evaluate, and the images to evaluate it on."""

    record: Record
    dataset: Dataset
    root: str | None


@dataclass(frozen=True)
class Ended:
    """The result of a task: ``metrics``, or the ``error`` that it ended with."""

    task: EvaluationTask
    metrics: dict[str, float] | None = None
    seconds: float = 0.0
    error: str = ""


def tasks(
    records: Sequence[Record], evaluation: Evaluation, other: OtherDataset | None, root: str | None, preset: str
) -> list[EvaluationTask]:
    """Return the tasks for finished records, on their own data set (now in ``root``) or on another one.

    Raises:
        UserError: an encoder does not fit the images, or there are fewer images than neighbours.
    """
    evaluations, checked = [], set()
    find = functools.cache(_find)
    for record in records:
        cell = record.cell()
        if other:
            task, files = EvaluationTask(record, other.like(cell.dataset), other.root), other.files
        else:
            submission = record.submission()
            task = EvaluationTask(record, cell.dataset, root or (submission.run.root if submission else None))
            files = find(cell.dataset.name, task.root)
        if (cell.backbone, task.dataset) not in checked:
            _check(cell, task.dataset, files, evaluation, preset)
            checked.add((cell.backbone, task.dataset))
        evaluations.append(task)
    return evaluations


def _find(name: str, root: str | None) -> DatasetFiles:
    try:
        return datasets.find(name, root)
    except DatasetMissing as missing:
        to_do = "--root FOLDER" if isinstance(DATASETS[name], ImageFolder) else missing.next_command
        raise UserError(missing.what, where="--root", allowed=missing.allowed, next_command=to_do) from None


def _check(cell: Cell, dataset: Dataset, files: DatasetFiles, evaluation: Evaluation, preset: str) -> None:
    def where(key: str) -> str:
        return f"--preset {preset}: {key}" if key.startswith("evaluate.") else f"--dataset {dataset.name}"

    trained_on, channels = DATASETS[cell.dataset.name], files.channels
    if trained_on.channels != channels:
        what = f"cell {cell.cell_id} takes images of {trained_on.channels} channels, {dataset.name} has {channels}"
        fitting = ", ".join(name for name, entry in DATASETS.items() if entry.channels == trained_on.channels)
        raise UserError(what, where=f"--dataset {dataset.name}", allowed=fitting)
    evaluated = replace(cell, dataset=dataset)
    with located(where):
        check_backbone(evaluated)
        check_evaluation(replace(evaluation, curve_bank=files.labelled), evaluated, files)  # without a curve


def run(todo: Sequence[EvaluationTask], evaluation: Evaluation, slots: Slots, log: Path) -> Iterator[Ended]:
    """Evaluate the records in another process and yield each as it ends; the process's errors go to ``log``."""
    cells = [{"record": str(task.record.path), "dataset": asdict(task.dataset), "root": task.root} for task in todo]
    request = {"threads": slots.threads, "device": slots.device, "evaluation": asdict(evaluation), "cells": cells}
    # A probe's steps are small: threads that spin while they wait for each other made them 30 times slower on busy
    # cores.
    environment = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    open_tasks = {task.record.cell_id: task for task in todo}
    reason = "it gave no answer"
    with log.open("a+b") as errors:
        try:
            for answer in json_process.call(
                "harness.ssl.evaluate", request=request, errors=errors, environment=environment
            ):
                yield Ended(open_tasks.pop(answer.pop("cell_id")), **answer)
        except json_process.ProcessFailed as failure:
            reason = str(failure)
    for task in open_tasks.values():
        yield Ended(task, error=f"the evaluation ended early: {reason} (log: {log})")
