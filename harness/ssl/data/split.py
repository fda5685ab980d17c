"""The images of a data set in memory: train, bank, validation and test."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.cell import Views
from harness.ssl.data import augment, augmentation_parameters
from harness.ssl.data.augment import LocalViews
from harness.ssl.data.streaming import Stream


@dataclass(frozen=True)
class Split:
    """``images``: uint8 (n, C, H, W); ``labels``: int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def channels(self) -> int:
        """The number of channels of the images."""
        return self.images.shape[1]

    def to(self, device: torch.device) -> Split:
        """Return the split with its images and labels on the device."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, rows: Tensor | slice) -> Split:
        """Return the split of these rows alone."""
        return Split(self.images[rows], self.labels[rows])

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all images in their order, uint8 (b, C, H, W)."""
        yield from self.images.split(size)

    def iter_views(
        self, rows_by_step: Sequence[Tensor], draws: Tensor, settings: Views
    ) -> Generator[LocalViews, None, None]:
        """Yield the augmented views of each step's samples. Whoever stops early closes the generator.

        Args:
            rows_by_step: the rows of this rank's samples, at each step that is left of the epoch.
            draws: of the epoch's v views, (v, n, columns(settings)), on the host.
            settings: of the augmentations.
        """
        rows, side = torch.cat(list(rows_by_step)).cpu(), self.images.shape[3]
        parameters = augmentation_parameters.resolve(draws[:, rows], settings, self.channels, side, side)

        def local_views(own_rows: Tensor, own_parameters: Tensor, part: slice) -> Tensor:
            return augment.augment(self.images.index_select(0, own_rows[part]), own_parameters[:, part], settings)

        by_step = parameters.to(self.images.device).split([len(step) for step in rows_by_step], 1)
        return (partial(local_views, *step) for step in zip(rows_by_step, by_step, strict=True))


@dataclass(frozen=True)
class Data:
    """The splits, and the channel means and deviations of the training images, in [0, 1].

    ``train``: all images to learn from, those without a label marked -1; ``bank``: the labelled ones among them, for
    nearest neighbours and the linear probe, which is ``train`` itself where all are.
    """

    train: Split | Stream
    bank: Split | Stream
    validation: Split | Stream
    test: Split | Stream
    mean: Tensor
    std: Tensor

    @property
    def channels(self) -> int:
        """The number of channels of the images."""
        return self.train.channels

    def to(self, device: torch.device) -> Data:
        """Return the data with all tensors on the device; the bank shares the images of ``train``."""
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        bank = labelled_images(train, len(self.bank))
        return Data(train, bank, validation, test, self.mean.to(device), self.std.to(device))


def labelled_images(train: Split | Stream, labelled: int) -> Split | Stream:
    """The labelled training images, which come first."""
    return train if labelled == len(train) else train.take(slice(labelled))
