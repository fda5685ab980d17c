"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 70,000 grey images of clothes, of 28x28 pixels."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.idx import IdxDataset

FASHION_MNIST = IdxDataset(
    name="fashion_mnist",
    label="Fashion-MNIST",
    channels=1,
    image_size=28,
    train=60_000,
    test=10_000,
    torchvision_class="FashionMNIST",
    debian=Path("/usr/share/datasets/fashion-mnist"),
)
