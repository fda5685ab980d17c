"""What one cell does. Knows Cell and Record; never sweep or study."""

from harness.ssl.runtime import torchvision_import as torchvision_import  # must run before anything imports torchvision
