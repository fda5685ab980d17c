"""A trained encoder as a file: its weights, and in safetensors' metadata what is needed to use them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from harness.cell import Backbone
from harness.files import atomic_write
from harness.ssl import models
from harness.store.checksum import Checksum


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder with the channel statistics that its images must be normalised by.

    ``mean``, ``std``: (C,) of the training images, in [0, 1]; ``image_size``: their side in pixels; only some
    backbones need it, and older files do not hold it.
    """

    encoder: nn.Module
    backbone: Backbone
    mean: Tensor
    std: Tensor
    image_size: int | None = None

    @property
    def channels(self) -> int:
        """The number of channels of the images that the encoder takes."""
        return len(self.mean)


def save(kept: SavedEncoder, path: Path) -> Checksum:
    """Write the encoder and return the checksum of the file."""
    weights = {name: value.contiguous() for name, value in kept.encoder.state_dict().items()}
    about = {
        "backbone": asdict(kept.backbone),
        "channels": kept.channels,
        "image_size": kept.image_size,
        "mean": kept.mean.tolist(),
        "std": kept.std.tolist(),
    }
    written = safetensors.torch.save(weights, {"harness": json.dumps(about)})
    with atomic_write(path) as file:
        file.write(written)
    return Checksum().extended(written)


def load(path: Path) -> SavedEncoder:
    """Return the encoder on the CPU in channels-last layout, as in training."""
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping, it only has keys)
        about = json.loads(file.metadata()["harness"])
    backbone = Backbone(**about["backbone"])
    encoder = models.encoder(backbone, about["channels"], about.get("image_size"))
    encoder.load_state_dict(weights)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this form
    return SavedEncoder(
        encoder, backbone, torch.tensor(about["mean"]), torch.tensor(about["std"]), about.get("image_size")
    )
