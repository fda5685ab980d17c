"""ResNets (He et al. 2015, arXiv 1512.03385) of any width, from torchvision's blocks."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from harness.cell import Backbone
from harness.ssl.models.backbones.base import Encoder

BLOCKS = {"resnet18": (BasicBlock, (2, 2, 2, 2)), "resnet34": (BasicBlock, (3, 4, 6, 3)),
          "resnet50": (Bottleneck, (3, 4, 6, 3))}  # fmt: skip


def build(backbone: Backbone, channels: int, image_size: int | None) -> Encoder:
    """Return the ResNet of this name, width and stem, for images of any size."""
    return ResNet(backbone.name, backbone.width, backbone.stem, channels)


class ResNet(torchvision_resnet.ResNet, Encoder):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ResNet without its classifier; its weights have torchvision's names.

    Args:
        name: resnet18, resnet34 or resnet50.
        width: channels of the first stage; 64 is the published net.
        stem: cifar, a 3x3 convolution and no max-pool, for small images: the ImageNet stem leaves an 8x8 map of a 32x32
            image and costs several points; or imagenet, 7x7 with stride 2 and a max-pool.
        channels: of the images.
    """

    def __init__(self, name: str, width: int, stem: str, channels: int) -> None:
        # torchvision's constructor knows a single width; its block builder and forward pass know any.
        nn.Module.__init__(self)
        block, blocks = BLOCKS[name]
        self._norm_layer = nn.BatchNorm2d
        self.inplanes = width
        self.dilation, self.groups, self.base_width = 1, 1, 64
        self.features = 8 * width * block.expansion
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, width, kernel_size=3, stride=1, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        stage = partial(torchvision_resnet.ResNet._make_layer, self, block)
        self.layer1 = stage(width, blocks[0])
        self.layer2 = stage(2 * width, blocks[1], stride=2)
        self.layer3 = stage(4 * width, blocks[2], stride=2)
        self.layer4 = stage(8 * width, blocks[3], stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, ``features``)."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))
