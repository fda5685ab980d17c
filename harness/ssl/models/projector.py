"""Projectors and predictors: the small perceptrons between features and the loss."""

from __future__ import annotations

from torch import nn

from harness.cell import Head


def projector(features: int, head: Head) -> nn.Sequential:
    """Return ``head.layers`` linear layers with ReLU between them; batch norm after the hidden ones, all, or none.

    The papers' projectors: SimCLR's and MoCo v2's h-d (two layers; MoCo v2's without batch norm), SiMo's (batch norm
    after the last one too), VICReg's d-d-d and 8192-8192-d (three). A bias before batch norm would be without effect.
    """
    hidden = head.hidden or head.dim
    layers: list[nn.Module] = []
    inputs = features
    for _ in range(head.layers - 1):
        layers += [nn.Linear(inputs, hidden, bias=head.norm == "none")]
        layers += [] if head.norm == "none" else [nn.BatchNorm1d(hidden)]
        layers += [nn.ReLU(inplace=True)]
        inputs = hidden
    layers += [nn.Linear(inputs, head.dim, bias=head.norm != "all")]
    layers += [nn.BatchNorm1d(head.dim)] if head.norm == "all" else []
    return nn.Sequential(*layers)
