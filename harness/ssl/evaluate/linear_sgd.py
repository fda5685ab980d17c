"""SimCLR's linear probe (Chen et al. 2020, arXiv 2002.05709, appendix B.6), as lightly's benchmarks run it.

SGD on the features of augmented images (crops and flips), which the frozen encoder computes anew in every epoch: each
epoch costs a pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import torch
from torch import Tensor, nn

from harness.cell import Views
from harness.random_streams import stream
from harness.ssl.data.augmentation_parameters import columns
from harness.ssl.data.split import Data
from harness.ssl.evaluate.features import embed, frozen
from harness.ssl.evaluate.linear_minibatch import descent_accuracy

#: Inception's crop, as for supervised training; no colours.
VIEWS = Views(crop_min=0.08, flip=0.5, jitter=0.0, gray=0.0, blur=0.0)

BATCH, LR, MOMENTUM = 256, 0.1, 0.9  # the papers' .1 x batch / 256


def sgd_accuracy(encoder: nn.Module, data: Data, *, test: Tensor, epochs: int, precision: str) -> float:
    """Return the percentage of test images that the probe classifies correctly after the last epoch.

    Args:
        encoder: images (B, C, H, W) -> features (B, f).
        data: the images of its bank are learned from.
        test: (m, f) features of the test images, which are not augmented.
        epochs: passes over the bank.
        precision: of the encoder.
    """
    bank = data.bank

    def features_in(epoch: int, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        # The same stream for all cells, whatever their seed: they are judged on the same crops.
        drawn = stream(0, "linear probe views", epoch).random((1, len(bank), columns(VIEWS)), dtype="float32")
        with closing(bank.iter_views(batches, torch.from_numpy(drawn), VIEWS)) as steps:
            for local_views in steps:
                yield embed(encoder, local_views(slice(None))[0], data.mean, data.std, precision)

    with frozen(encoder):
        return descent_accuracy(
            features_in,
            data.bank.labels,
            test,
            data.test.labels,
            epochs=epochs,
            batch=BATCH,
            lr=LR,
            optimizer=partial(torch.optim.SGD, lr=LR, momentum=MOMENTUM),
        )
