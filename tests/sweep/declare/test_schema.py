"""The typed form of a declaration."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from harness.store.sweeps.ledger import Policy
from harness.sweep.declare.compose import declare
from harness.sweep.declare.schema import ClusterConfig


def test_a_declaration_has_typed_parts(tiny: Path) -> None:
    declaration = declare(tiny, ["cluster=slurm", "cluster.time=30", "failures.retries=3", "dataset.root=images"])
    assert (declaration.cluster.scheduler, declaration.cluster.time) == ("slurm", 30.0)
    assert declaration.failures == Policy(retries=3)
    assert (declaration.experiment.dataset.name, declaration.experiment.dataset.root) == ("digits", "images")
    assert "root" not in declaration.settings["dataset"]


def test_a_profile_is_read_back_as_it_was_written() -> None:
    profile = ClusterConfig(scheduler="slurm", time=30.0, sbatch={"exclude": "node13"}, setup=["module load cuda"])
    stored = json.loads(json.dumps(asdict(profile)))
    assert ClusterConfig.from_json(stored) == profile
    del stored["stage"]  # a sweep of an older version, or of a newer one
    assert ClusterConfig.from_json({**stored, "flavour": "sweet"}) == replace(profile, stage=None)
