"""What one cell does. Knows Cell and Record; never sweep or study."""

from harness.ssl import torchvision_ops as torchvision_ops  # must run before anything imports torchvision
