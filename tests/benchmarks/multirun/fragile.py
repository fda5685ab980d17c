"""A loss for the comparison: InfoNCE that fails at one temperature until a file named ``mended`` lies in $MENDED."""

import os
from pathlib import Path

import torch


def fragile(z1, z2, *, temperature=0.1):
    """InfoNCE over the other view, or an error in one cell."""
    if abs(temperature - 0.11) < 1e-9 and not (Path(os.environ["MENDED"]) / "mended").exists():
        raise RuntimeError("cell 7 is broken")
    logits = z1 @ z2.T / temperature
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(z1), device=z1.device))
