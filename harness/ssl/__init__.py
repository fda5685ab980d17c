"""The training of one cell. This wing knows Cell and Record, and never the sweep or the study."""

from harness.ssl.runtime import torchvision_import as torchvision_import  # must run before anything imports torchvision
