"""What torchvision fetches is found where it was put."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets import find
from harness.ssl.data import download
from tests.support.small_files import resize, write_cifar100, write_stl10


@pytest.mark.parametrize(("name", "write"), [("cifar100", write_cifar100), ("stl10", write_stl10)])
def test_torchvisions_root_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], Path]
) -> None:
    from torchvision import datasets
    from torchvision.datasets import cifar

    def fetch(self: datasets.VisionDataset) -> None:
        write(Path(self.root))

    resize(monkeypatch, "cifar100", train=40, test=10)
    resize(monkeypatch, "stl10", train=50, test=8, labelled=20)
    monkeypatch.setattr(getattr(datasets, download.CLASSES[name]), "download", fetch)
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
    assert download.main(name, str(tmp_path)) == 0
    assert Path(find(name, str(tmp_path)).folder).parent == tmp_path


def test_a_failed_download_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import STL10

    def fetch(self: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(STL10, "download", fetch)
    assert download.main("stl10", str(tmp_path)) == 1
    assert "stl10 could not be downloaded: no route to host" in capsys.readouterr().err
