"""``harness doctor``: check this machine or a cluster, and name the command that fixes each failed check."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.shared.arguments import Results
from harness.datasets import DATASETS, DatasetMissing, FixedDataset
from harness.environment.cpu import cores
from harness.environment.diagnosis import Diagnosis
from harness.environment.gpus import gpus, visible_gpus
from harness.environment.memory import memory_bytes
from harness.errors import UserError
from harness.files import TEMPORARY_CACHE, cache_folder, existing_folder, free_bytes


def doctor(
    cluster: Annotated[
        list[str] | None,
        typer.Argument(help="cluster=NAME, and cluster.KEY=VALUE: that cluster instead.", show_default=False),
    ] = None,
    results: Results = Path("results"),
    full: Annotated[
        bool, typer.Option("--full", help="Of a cluster: also train a cell on it, and interrupt it; ten minutes.")
    ] = False,
) -> None:
    """Check this machine, or a cluster, and say how to fix it.

    Every line is a check: ok, FAIL or note, with the command that fixes it. Exit code 1: something that is needed
    failed.
    """
    failed = False
    for diagnosis in _of_cluster(cluster or [], results, full) if cluster or full else _of_machine(results):
        mark = "ok  " if not diagnosis.fix else "FAIL" if diagnosis.needed else "note"
        print(f"{mark} {diagnosis.what:14} {diagnosis.found}", flush=True)
        if diagnosis.fix:
            print(f"     {'':14} fix: {diagnosis.fix}", flush=True)
        failed |= diagnosis.failed
    if failed:
        raise typer.Exit(1)


def _of_machine(results: Path) -> Iterator[Diagnosis]:
    return iter([*_machine(results), *_packages(), *_torch(), *_datasets()])


def _of_cluster(words: list[str], results: Path, full: bool) -> Iterator[Diagnosis]:
    from harness.sweep.cluster_check import check_cluster  # here, since it needs packages that may be missing

    return check_cluster(words, results, full, lambda line: print(f"     {time.strftime('%T')} {line}", flush=True))


def _machine(results: Path) -> Iterator[Diagnosis]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Diagnosis("python", version, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer")
    cuda = gpus()
    yield Diagnosis("cores, GPUs", f"{cores()} cores, {len(cuda)} GPUs")
    if cuda or os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
        yield _gpus(cuda)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags or cuda:
        yield Diagnosis("bf16", "in hardware")
    else:
        yield Diagnosis("bf16", "emulated on this processor, so slow", "precision=fp32", needed=False)
    yield Diagnosis("memory", f"{memory_bytes('cpu') / 2**30:.0f} GiB")
    folder = existing_folder(results.resolve())
    free = free_bytes(folder) / 2**30
    yield Diagnosis("disk", f"{free:.0f} GiB free at {folder}", "" if free > 2 else f"free some space at {folder}")
    if not os.access(folder, os.W_OK):
        yield Diagnosis("results", f"{folder} cannot be written", "--results OTHER_FOLDER")
    yield _cache()
    if shutil.which("git") is None:
        yield Diagnosis("git", "not found: reports cannot name a revision", "apt-get install git", needed=False)


def _cache() -> Diagnosis:
    """Return where images and measurements are kept, and whether they can be written there."""
    try:
        folder = cache_folder()
    except UserError as error:
        return Diagnosis("cache", f"{error.where}: {error.what}", error.next_command)
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not os.access(there, os.W_OK):
        return Diagnosis("cache", f"{folder} cannot be written", "export XDG_CACHE_HOME=FOLDER", needed=False)
    if any(part.startswith(TEMPORARY_CACHE) for part in folder.parts):
        found = f"{folder}, since there is no home that can be written"
        return Diagnosis("cache", found, "export XDG_CACHE_HOME=FOLDER", needed=False)
    return Diagnosis("cache", str(folder))


def _gpus(cuda: Sequence[str]) -> Diagnosis:
    """The names and the memory of the GPUs that this process may use."""
    named = f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')} names no GPU of this machine"
    try:
        names = [f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB" for gpu in visible_gpus()]
    except UserError as error:
        fix = "install NVIDIA's driver, or unset CUDA_VISIBLE_DEVICES"
        return Diagnosis("GPUs", f"{named}, cells use the processor: {error.what}", fix, needed=False)
    if not cuda:
        return Diagnosis("GPUs", f"{named}, cells use the processor", "unset CUDA_VISIBLE_DEVICES", needed=False)
    return Diagnosis("GPUs", "; ".join(names))


def _packages() -> Iterator[Diagnosis]:
    missing = []
    for requirement in importlib.metadata.requires("harness") or []:
        name = requirement.split(";")[0].strip()
        bare = "".join(character if character.isalnum() or character in "-_." else " " for character in name).split()[0]
        if "extra ==" not in requirement:
            try:
                importlib.metadata.version(bare)
            except importlib.metadata.PackageNotFoundError:
                missing.append(bare)
    fix = "pip install -c constraints.txt -e ." if missing else ""
    yield Diagnosis("packages", f"{', '.join(missing)} missing" if missing else "all installed", fix)


def _torch() -> Iterator[Diagnosis]:
    code = "import harness.ssl, torch, torchvision.models; print(torch.__version__, torch.cuda.is_available())"
    tried = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        yield Diagnosis("torch", tried.stderr.strip().splitlines()[-1], "pip install -c constraints.txt -e .")
        return
    version, cuda = tried.stdout.split()
    blind = bool(gpus()) and cuda == "False"
    yield Diagnosis("torch", f"{version}, CUDA {'usable' if cuda == 'True' else 'not usable'}",
                  "install a CUDA build of torch: pytorch.org/get-started" if blind else "", needed=False)  # fmt: skip


def _datasets() -> Iterator[Diagnosis]:
    for name, dataset in DATASETS.items():
        if not isinstance(dataset, FixedDataset):
            continue
        try:
            yield Diagnosis(name, dataset.find(None).folder)
        except DatasetMissing as missing:
            yield Diagnosis(name, "not on this machine", missing.next_command, needed=False)
        except UserError as broken:
            yield Diagnosis(name, f"{broken.where}: {broken.what}", broken.next_command, needed=False)
