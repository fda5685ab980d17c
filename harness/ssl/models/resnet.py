"""ResNet-18 for small images (He et al. 2015, arXiv 1512.03385), from torchvision's blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ResNet-18 of any width, with the stem that CIFAR needs: a 3x3 convolution and no max-pool.

    The ImageNet stem (7x7, stride 2, max-pool) leaves an 8x8 map of a 32x32 image and costs several points.

    Args:
        width: channels of the first stage; 64 is the published net.
        channels: of the images.
    """

    def __init__(self, width: int, channels: int) -> None:
        # torchvision's constructor knows one width only; its block builder and forward pass know any.
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes = width
        self.dilation, self.groups, self.base_width = 1, 1, 64
        self.features = 8 * width
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 8 width)."""
        x: Tensor = self.relu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))
