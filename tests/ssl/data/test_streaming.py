"""Images streamed from a packed folder: the crops that Pillow makes directly, whatever the number of threads."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from harness.cell import Backbone, Cell, Dataset, Head, Views
from harness.datasets import find
from harness.datasets.class_folders import SplitFolder
from harness.evaluation import Evaluation
from harness.ssl.attempt import run_cell
from harness.ssl.data import augment, augmentation_parameters, sources, streaming
from harness.ssl.data.sources import load
from harness.ssl.data.split import Data
from harness.ssl.data.streaming import centre, crops_of, decode, seconds_per_image, waiting_bytes
from harness.store.record import Record
from harness.store.submission import RunConfig, Submission

SIDE = 32
SETTINGS = Views(crop_min=0.08, flip=0.5, jitter=0.5, gray=0.2, blur=0.5)
CROPS = Views(crop_min=0.08, flip=0.5, jitter=0.0, gray=0.0)

Array = npt.NDArray[np.uint8]


def picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Smooth colours and a little noise."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-8, 9, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    picture(np.random.default_rng(1), width, height).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    sizes = [(50, 40), (40, 70), (33, 32), (130, 90), (200, 180), (20, 31)]
    for split, count in (("train", 12), ("test", 6)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(count):
                image = picture(rng, *sizes[number % len(sizes)]).convert(["RGB", "RGB", "L", "CMYK"][number % 4])
                image.save(tmp_path / split / label / f"{number:02}.jpg")
    picture(rng, 64, 48).convert("P").save(tmp_path / "train/dog/palette.png")
    return tmp_path


def read(folder: Path, validation: float = 0.2) -> Data:
    fingerprint = find("imagefolder", str(folder)).fingerprint
    return load(Dataset("imagefolder", SIDE, validation, fingerprint, stream=True), str(folder))


def steps(data: Data) -> list[Tensor]:
    return list(torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)).split(3))


def augmented(data: Data, owns: list[Tensor], settings: Views = SETTINGS) -> list[Tensor]:
    draws = augmentation_parameters.draw(0, 0, len(data.train), settings)
    with closing(data.train.iter_views(owns, draws, settings)) as shares:
        return [share(slice(None)) for share in shares]


def scaled(image: Image.Image, width: float, height: float) -> int:
    """The scale at which an image is decoded for crops of this size, if it is a JPEG."""
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(width, height) >= scale * SIDE)


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def all_end(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(timeout=10)
    return not any(thread.is_alive() for thread in threads)


def test_crops_are_pillows(folder: Path) -> None:
    data, paths = read(folder), SplitFolder.read(folder / "train").paths
    rows = torch.arange(len(data.train))
    draws = augmentation_parameters.draw(0, 0, len(data.train), CROPS)
    (share,) = data.train.iter_views([rows], draws, CROPS)
    compared = 0
    for row in rows.tolist():
        with Image.open(paths[data.train.rows[row]]) as opened:
            image = opened.convert("RGB")
        boxes = [augmentation_parameters.boxes(drawn[row, None], CROPS, image.height, image.width) for drawn in draws]
        if max(int(min(box.width, box.height)) for box in boxes) >= 2 * SIDE:
            continue  # perhaps decoded at a smaller scale
        for view, box in enumerate(boxes):
            edges = (box.left, box.top, box.left + box.width, box.top + box.height)
            crop = image.crop([int(edge) for edge in edges]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            wanted = np.asarray(crop)[:, ::-1] if box.mirrored else np.asarray(crop)
            assert np.array_equal(share(slice(None))[view, row].permute(1, 2, 0) * 255, wanted)
            compared += 1
    assert compared > 20


def test_crops_agree_with_those_of_images_in_memory() -> None:
    image = jpeg(SIDE, SIDE)
    with Image.open(io.BytesIO(image)) as opened:
        pixels = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    recipe = augmentation_parameters.resolve(augmentation_parameters.draw(0, 0, 100, CROPS)[:1], CROPS, 3, SIDE, SIDE)
    in_memory = augment.augment(pixels.expand(100, -1, -1, -1), recipe, CROPS)[0] * 255
    asked = crops_of(np.zeros(100, np.int64), recipe)
    crops = list(decode(image, asked.boxes[:, 0].tolist(), asked.mirrored[:, 0].tolist(), SIDE, cut=True))
    streamed = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    assert (streamed - in_memory).abs().max() < 1.5  # Pillow rounds twice


@pytest.mark.parametrize(("edge", "scale"), [(63, 1), (64, 2), (127, 2), (128, 4), (256, 8), (600, 8)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_no_crop_is_enlarged_at(
    edge: int, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, resized = jpeg(603, 641), list[tuple[int, int]]()

    def resize(image: Image.Image, *_: object, **__: object) -> Image.Image:
        resized.append(image.size)
        return Image.new("RGB", (SIDE, SIDE))

    monkeypatch.setattr(Image.Image, "resize", resize)
    list(decode(image, [(0, 0, 603, 641), (1, 1, 1 + edge, 605)], [False, True], SIDE, cut=False))
    assert resized == [(-(-603 // scale), -(-641 // scale))] * 2


def test_a_small_scale_shows_the_same_crop() -> None:
    image = jpeg(640, 480)
    box = (101.0, 51.0, 501.0, 403.0)
    (ours,) = decode(image, [box], [False], SIDE, cut=True)
    with Image.open(io.BytesIO(image)) as opened:
        theirs = np.asarray(opened.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).mean() < 1


def test_views_are_the_crops_recoloured(folder: Path) -> None:
    data, rows = read(folder), torch.arange(15)
    draws = augmentation_parameters.draw(0, 0, len(data.train), SETTINGS)
    plain = Views(SETTINGS.crop_min, SETTINGS.flip, jitter=0.0, gray=0.0, blur=1e-9)  # draws in the same columns
    (crops,), (share,) = (data.train.iter_views([rows], draws, settings) for settings in (plain, SETTINGS))
    recipe = augmentation_parameters.resolve(draws[:, rows], SETTINGS, 3, SIDE, SIDE)  # whose boxes are not asked for
    pixels = (crops(slice(None)) * 255).round().to(torch.uint8)
    assert torch.equal(share(slice(None)), augment.recolour(pixels, recipe, SETTINGS))


def test_a_part_may_be_asked_for_again(folder: Path) -> None:
    data, settings = read(folder), SETTINGS
    draws = augmentation_parameters.draw(0, 0, len(data.train), settings)
    (share,) = data.train.iter_views([torch.arange(9)], draws, settings)
    first = share(slice(2, 5))
    assert first.shape == (2, 3, 3, SIDE, SIDE)
    assert torch.equal(share(slice(2, 5)), first)
    assert torch.equal(share(slice(None))[:, 2:5], first)


def test_no_crop_depends_on_the_number_of_threads(folder: Path) -> None:
    data = read(folder)
    few = augmented(data, steps(data), CROPS)
    torch.set_num_threads(3)
    try:
        many = augmented(data, steps(data), CROPS)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(few, many, strict=True))


def test_an_epoch_is_resumed_in_its_middle(folder: Path) -> None:
    data = read(folder)
    whole, rest = augmented(data, steps(data)), augmented(data, steps(data)[3:])
    assert all(torch.equal(one, other) for one, other in zip(whole[3:], rest, strict=True))


@pytest.mark.parametrize("images_ahead", [0, 5, 6])
def test_look_ahead_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch, images_ahead: int) -> None:
    monkeypatch.setattr(streaming, "ahead", lambda device: images_ahead)
    data, asked = read(folder), []

    def crops() -> Iterator[streaming.Crops]:
        for own in steps(data):
            asked.append(own)
            yield data.train._centres(data.train.rows[own.numpy()])

    with closing(data.train._decoded(crops())) as decoded:
        held = [len(asked) - max(0, step - 1) for step, _ in enumerate(decoded)]  # with the step's and the last one's
    assert len(asked) > max(held)
    assert max(held) * 3 * 2 * 3 * SIDE**2 == waiting_bytes(3, SIDE, torch.device("cpu"))


def test_a_plan_measures_the_files_that_are_there(folder: Path) -> None:
    paths = SplitFolder.read(folder / "train").paths
    assert 0 < seconds_per_image(paths, SIDE, CROPS) < 1


@pytest.mark.parametrize("stop", [KeyError, KeyboardInterrupt])
def test_no_thread_is_left_when_the_loop_stops(folder: Path, stop: type[BaseException]) -> None:
    data = read(folder)
    draws = augmentation_parameters.draw(0, 0, len(data.train), SETTINGS)
    threads: list[threading.Thread] = []

    def loop() -> None:
        with closing(data.train.iter_views(steps(data), draws, SETTINGS)) as shares:
            for _ in shares:
                threads.extend(decoding_threads())
                raise stop

    with pytest.raises(stop):
        loop()
    assert threads
    assert all_end(threads)


def test_an_error_in_a_thread_is_raised_where_the_views_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read(folder)

    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(streaming, "decode", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        augmented(data, steps(data))
    assert all_end(decoding_threads())


def test_evaluation_sees_the_centre(folder: Path) -> None:
    data, paths = read(folder), SplitFolder.read(folder / "test").paths
    pixels = torch.cat(list(data.test.batches(5)))
    assert pixels.shape == (12, 3, SIDE, SIDE)
    assert pixels.dtype == torch.uint8
    for ours, path in zip(pixels, paths, strict=True):
        with Image.open(path) as opened:
            scale = scaled(opened, *(SIDE / round(SIDE * 256 / 224) * min(opened.size),) * 2)
            opened.draft(None, (opened.width // scale, opened.height // scale))
            image = opened.convert("RGB")
        shorter = round(SIDE * 256 / 224)
        size = [shorter * edge // min(image.size) for edge in image.size]
        left, top = (round((edge - SIDE) / 2) for edge in size)
        resized = image.resize(size, Image.Resampling.BILINEAR)
        wanted = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE))).astype(int)
        difference = np.abs(ours.permute(1, 2, 0).numpy() - wanted)
        assert difference.max() <= (1 if scale == 1 else 12)


def test_the_centre_is_torchvisions() -> None:
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    for width, height in ((500, 375), (333, 500), (256, 256), (301, 299)):
        image = picture(np.random.default_rng(0), width, height)
        ours = image.resize((224, 224), Image.Resampling.BILINEAR, box=centre(height, width, 224))
        difference = np.abs(np.asarray(ours).astype(int) - np.asarray(transform(image)))
        assert difference.max() <= 1


def test_splits_and_labels_are_those_in_memory(folder: Path) -> None:
    streamed = read(folder)
    in_memory = load(Dataset("imagefolder", SIDE, 0.2, find("imagefolder", str(folder)).fingerprint), str(folder))
    for split in ("train", "bank", "validation", "test"):
        assert torch.equal(getattr(streamed, split).labels, getattr(in_memory, split).labels)
    chosen = torch.tensor([3, 1])
    assert torch.equal(streamed.train.take(chosen).labels, in_memory.train.take(chosen).labels)
    assert torch.equal(
        torch.cat(list(streamed.train.take(chosen).batches(1))), torch.cat(list(streamed.train.batches(4)))[chosen]
    )


def test_channel_statistics_are_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(folder)
    monkeypatch.delattr(sources, "_pixel_statistics")
    again = read(folder)
    assert torch.equal(again.mean, first.mean)
    assert torch.equal(again.std, first.std)
    with pytest.raises(NameError):  # of other images they are others
        read(folder, validation=0.3)


def test_channel_statistics_are_those_of_the_pixels(folder: Path) -> None:
    data = read(folder)
    pixels = torch.cat(list(data.train.batches(4))).double() / 255
    assert data.mean.tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-6)
    assert data.std.tolist() == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-6)


@pytest.mark.parametrize("probe", [{"linear": "lbfgs", "penalty": 1e-4}, {"linear": "sgd", "linear_epochs": 1}])
def test_a_streamed_cell_is_trained_and_judged(folder: Path, tmp_path: Path, probe: dict[str, object]) -> None:
    fingerprint = find("imagefolder", str(folder)).fingerprint
    cell = Cell(
        dataset=Dataset("imagefolder", SIDE, 0.2, fingerprint, stream=True),
        views=SETTINGS,
        backbone=Backbone("convnet", 4),
        head=Head(16, 16),
        batch_size=8,
        epochs=2,
    )
    record = Record.prepare(tmp_path / "runs", cell)
    evaluation = {"knn_k": 3, "knn_temperature": 0.07, "curve_bank": 10, **probe}
    record.submit(Submission(RunConfig(root=str(folder), evaluation=Evaluation(**evaluation))))
    run_cell(record)
    ended = record.outcome()
    assert ended is not None
    assert ended.state == "finished"
    assert {"test_knn", "test_linear", "init_knn", "init_linear"} <= set(ended.metrics)
