"""The same cell as a Hydra program, the way its users write one: one process a job, one folder a job."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from harness.evaluation import Evaluation
from harness.store.submission import RunConfig, Submission

HERE = Path(__file__).parent


@hydra.main(version_base="1.3", config_path=".", config_name="multirun")
def main(config: DictConfig) -> float:
    from hydra.core.hydra_config import HydraConfig

    from harness.catalog.losses import LOSSES
    from harness.cell import Backbone, Cell, Dataset, Head, Loss
    from harness.datasets import find
    from harness.plugins import register
    from harness.ssl.attempt import run_cell
    from harness.store.record import Record

    plugin = str(HERE / "fragile.py")
    register([plugin])
    cell = Cell(
        loss=Loss("fragile", config.temperature, source=LOSSES["fragile"].source),
        dataset=Dataset("digits", 8, 0.1, find("digits", None).fingerprint),
        backbone=Backbone("convnet", 8),
        head=Head(64, 64),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
    )
    record = Record.prepare(Path(HydraConfig.get().runtime.output_dir) / "runs", cell)
    evaluation = {"knn_k": 20, "knn_temperature": 0.07, "penalty": 1e-4, "every": 1, "curve_bank": 500}
    record.submit(Submission(RunConfig(evaluation=Evaluation(**evaluation), plugins=(plugin,))))
    run_cell(record)
    outcome = record.outcome()
    assert outcome
    return outcome.metrics["test_knn"]


if __name__ == "__main__":
    main()
