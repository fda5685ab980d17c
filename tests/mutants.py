"""Seeded faults, and whether the tests catch them: ``make mutants``; ``python tests/mutants.py WORD ...`` for some.

Every fault is a replacement in a temporary copy of package and tests, where the tests run that should notice. Exits 1
where a fault survives, where its text is no longer in the code, or where the tests fail without any fault.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOSS_TESTS = tuple(
    f"tests/ssl/losses/test_{concept}.py"
    for concept in ("oracles", "gradients", "identities", "properties", "precision", "bad_input", "tiled_logsumexp")
)
RANK_TESTS = ("tests/ssl/test_distributed.py",)
#: The files in which faults are seeded, below harness/: here is the one place where their paths stand.
FILES = {
    "distributed": "ssl/distributed.py",
    "validation": "ssl/losses/validation.py",
    "barlow_twins": "ssl/losses/barlow_twins.py",
    "dcl": "ssl/losses/dcl.py",
    "duality": "ssl/losses/duality.py",
    "eqco": "ssl/losses/eqco.py",
    "flatnce": "ssl/losses/flatnce.py",
    "tiled_logsumexp": "ssl/losses/tiled_logsumexp.py",
    "pairs": "ssl/losses/pairs.py",
    "sogclr": "ssl/losses/sogclr.py",
    "spectral": "ssl/losses/spectral.py",
    "vicreg": "ssl/losses/vicreg.py",
    "batchnorm": "ssl/models/batchnorm.py",
}
PASSED, FAILED = 0, 1  # pytest's exit codes; others mean that no test could judge


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in ``FILES[file]``."""

    file: str
    old: str
    new: str
    what: str
    tests: tuple[str, ...] = LOSS_TESTS

    def path(self, package: Path) -> Path:
        return package / FILES[self.file]

    def apply(self, package: Path) -> bool:
        """False where the text does not stand in the file exactly once."""
        path = self.path(package)
        text = path.read_text()
        path.write_text(text.replace(self.old, self.new))
        return text.count(self.old) == 1


MUTANTS = [
    # Who is compared with whom.
    Mutant(
        "pairs",
        "anchors, anchors, (0, n, -n)",
        "anchors, anchors, (n, -n)",
        "an anchor is its own negative",
    ),
    Mutant(
        "pairs",
        "anchors, anchors, (0, n, -n)",
        "anchors, anchors, (0,)",
        "the positive is left among the negatives",
    ),
    Mutant(
        "pairs",
        "DensePairs(positives, queries, keys, (0,), ",
        "DensePairs(positives, queries, keys, (), ",
        "cross-view: the positive is left among the negatives",
    ),
    Mutant(
        "pairs",
        "columns >= rows",
        "columns > rows",
        "cross-view: columns off by one, own key drawn",
    ),
    Mutant(
        "pairs",
        "DensePairs((z1 * z2).sum(1).repeat(2), ",
        "DensePairs((z1 * z2).sum(1).repeat(2).detach(), ",
        "no gradient through the positive",
    ),
    Mutant(
        "pairs",
        "DensePairs((queries * keys).sum(1), ",
        "DensePairs((queries * keys.detach()).sum(1), ",
        "queue: no gradient through the key",
    ),
    Mutant(
        "pairs",
        "(0, n, -n), 2 * n - 2)",
        "(0, n, -n), 2 * n - 1)",
        "the positive is counted as a negative",
    ),
    Mutant(
        "pairs",
        "scale = temperature ** (-1 if",
        "scale = temperature ** (-2 if",
        "temperature applied twice to the negatives",
    ),
    Mutant(
        "pairs",
        "positives=function.of(self.positives) if positive else self.positives",
        "positives=function.of(self.positives)",
        "square_positive and abs_positive are ignored",
    ),
    # Sums in tiles.
    Mutant(
        "tiled_logsumexp",
        "totals.mul_(tops.sub_(top).exp_()).sum(0)",
        "totals.sum(0)",
        "sums of tiles are added whatever their largest terms",
    ),
    Mutant(
        "tiled_logsumexp",
        "weights.addcmul_(terms.sub_(top[columns]).exp_(), gradient[columns])",
        "pass",
        "tiles of a symmetric matrix: no gradient of the columns",
    ),
    Mutant(
        "tiled_logsumexp",
        "if of_y is not None and not (ctx.symmetric and rows == columns):",
        "if of_y is not None:",
        "the tiles on the diagonal count twice",
    ),
    Mutant(
        "tiled_logsumexp",
        "(weights + weights.T) @ x",
        "2 * weights @ x",
        "one tile: the anchors stand for the candidates",
    ),
    Mutant(
        "tiled_logsumexp",
        "if -terms.shape[0] < diagonal < terms.shape[1]:",
        "if 0 <= diagonal < terms.shape[1]:",
        "what is excluded below the diagonal of a tile stays",
    ),
    # DCL and DCLW.
    Mutant(
        "dcl",
        "return (sums - p).mean()",
        "return 2 * (sums - p).mean()",
        "DCL: the two directions are summed, a factor of 2",
    ),
    Mutant(
        "dcl",
        "return (sums - p).mean()",
        "return (sums - p).sum()",
        "DCL: a sum for a mean",
    ),
    Mutant(
        "dcl",
        "cosines.shape[0] * torch.softmax(cosines / sigma, dim=0)",
        "torch.cat([c.shape[0] * torch.softmax(c / sigma, dim=0) for c in cosines.chunk(4)])",
        "DCLW: a softmax for each of two ranks",
    ),
    Mutant(
        "dcl",
        "cosines.shape[0] * torch.softmax(cosines / sigma, dim=0)",
        "cosines.shape[0] // 2 * torch.softmax(cosines / sigma, dim=0)",
        "DCLW: N for 2N anchors, weights of mean 1.5",
    ),
    Mutant(
        "dcl",
        "torch.softmax(cosines / sigma, dim=0)",
        "torch.softmax(cosines / temperature, dim=0)",
        "DCLW: temperature for sigma",
    ),
    Mutant(
        "dcl",
        "similarities.positives.detach() if detach_weights else similarities.positives",
        "similarities.positives",
        "DCLW: weights are not detached",
    ),
    # EqCo, FlatNCE, SogCLR.
    Mutant(
        "eqco",
        "math.log(alpha / similarities.count)",
        "math.log(alpha)",
        "EqCo: log(alpha) without K",
    ),
    Mutant(
        "flatnce",
        "(v.detach()",
        "(v",
        "FlatNCE: the value has a gradient too",
    ),
    Mutant(
        "sogclr",
        "        ratios = torch.exp((batch - own).clamp(max=60.0))\n        first, second = own.chunk(2)\n",
        "        first, second = own.chunk(2)\n        own = (torch.logaddexp(first, second) - math.log(2)).repeat(2)\n"
        "        ratios = torch.exp((batch - own).clamp(max=60.0))\n",
        "SogCLR: the views' averages are combined before they are used",
    ),
    Mutant(
        "sogclr",
        "torch.where(stored.isneginf(), batch, average)",
        "average",
        "SogCLR: a first visit is averaged with nothing",
    ),
    Mutant(
        "sogclr",
        "update = torch.logaddexp(first, second) - math.log(2)",
        "update = (first + second) / 2",
        "SogCLR: the mean of logarithms is stored",
    ),
    # VICReg and its relatives.
    Mutant(
        "vicreg",
        "torch.sqrt(z.var(0) + EPSILON)",
        "torch.sqrt(z.var(0, correction=0) + EPSILON)",
        "VICReg: biased variance",
    ),
    Mutant(
        "vicreg",
        "variance * (variance_hinge(z1) + variance_hinge(z2)) / 2",
        "variance * (variance_hinge(z1) + variance_hinge(z2))",
        "VICReg: the variance term without its 1/2",
    ),
    Mutant(
        "vicreg",
        "covariance * (_off_diagonal_energy(z1) + _off_diagonal_energy(z2))",
        "covariance * _off_diagonal_energy(z1)",
        "VICReg: one view's covariance only",
    ),
    Mutant(
        "vicreg",
        "centred.T @ centred / (z.shape[0] - 1)",
        "centred.T @ centred / z.shape[0]",
        "VICReg: covariance over N",
    ),
    Mutant(
        "duality",
        "log_sums(scaled.T, excluded=(0,)).mean()",
        "log_sums(scaled.T, excluded=(0,)).logsumexp(0) / scaled.shape[1]",
        "c_exp: one logarithm of the whole sum",
    ),
    Mutant(
        "duality",
        "log_sums(scaled.T, excluded=(0,))",
        "log_sums(scaled.T)",
        "c_exp: the diagonal is not masked",
    ),
    Mutant(
        "duality",
        "variance * (variance_hinge(z1.T) + variance_hinge(z2.T)) / 2",
        "variance * (variance_hinge(z1) + variance_hinge(z2)) / 2",
        "VICReg-ctr: the variance is not transposed",
    ),
    Mutant(
        "duality",
        "normalize(z1 - z1.mean(0), dim=1), normalize(z2 - z2.mean(0), dim=1)",
        "normalize(z1, dim=1), normalize(z2, dim=1)",
        "VICReg-ctr with unit_norm: dimensions are not centred",
    ),
    Mutant(
        "barlow_twins",
        "z.var(0, correction=0)",
        "z.var(0)",
        "Barlow Twins: unbiased variance",
    ),
    # Spectral; what every loss takes.
    Mutant(
        "spectral",
        "squares - positives.square().sum()",
        "squares",
        "spectral: the positives are squared too",
    ),
    Mutant(
        "spectral",
        ".clamp(min=radius)",
        ".clamp(min=1e-12)",
        "spectral: short embeddings are lengthened",
    ),
    Mutant(
        "validation",
        "loss(z1.to(wide), z2.to(wide), **given)",
        "loss(z1, z2, **given)",
        "similarities in half precision",
    ),
    Mutant(
        "validation",
        '            _check_values(z2, "z2", unit_norm)\n',
        "",
        "the second view is not looked at",
    ),
    # More than one process.
    Mutant(
        "distributed",
        "        dist.all_reduce(total)\n        return total.chunk(",
        "        return total.chunk(",
        "gather: own slice of the own gradient, 1/W of the whole",
        RANK_TESTS,
    ),
    Mutant(
        "distributed",
        "        dist.all_reduce(total, group=ctx.group)\n        return total, None",
        "        return total, None",
        "synchronised batch norm: the other ranks' gradients are missing",
        RANK_TESTS,
    ),
    Mutant(
        "distributed",
        "        together /= self.size\n",
        "",
        "running statistics are summed over ranks",
        RANK_TESTS,
    ),
    Mutant(
        "batchnorm",
        "if views == 1 or groups == 1:",
        "if True:",
        "a batch-norm group has one view of its samples",
        RANK_TESTS,
    ),
]


def judged(mutant: Mutant | None, tests: Sequence[str]) -> str:
    """What the tests say of a copy of the code with this fault, or with none."""
    options = ["-x", "-n", "0", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as folder:
        for part in ("harness", "tests"):
            shutil.copytree(CHECKOUT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "pyproject.toml", folder)
        if mutant and not mutant.apply(Path(folder, "harness")):
            return "NO SUCH TEXT"
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},  # before the checkout, in subprocesses of the tests too
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode not in (PASSED, FAILED):
        return f"BROKEN: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return "SURVIVED" if ended.returncode == PASSED else "caught"


def line(mutant: Mutant, found: str, seconds: float) -> str:
    return f"{found:<12} {seconds:5.0f} s  {mutant.file:<13} {mutant.what}"


def main(words: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in line(mutant, "", 0) for word in words)]
    every_test = sorted({test for mutant in chosen for test in mutant.tests})

    def timed(mutant: Mutant | None) -> tuple[str, float]:
        start = time.monotonic()
        return judged(mutant, mutant.tests if mutant else every_test), time.monotonic() - start

    with ThreadPoolExecutor(2) as pool:
        without_a_fault = pool.submit(timed, None)
        caught = []
        for mutant, (found, seconds) in zip(chosen, pool.map(timed, chosen), strict=True):
            print(line(mutant, found, seconds), flush=True)
            caught.append(found == "caught")
        unchanged = without_a_fault.result()[0]
    passes = unchanged == "SURVIVED"
    print(f"{sum(caught)} of {len(caught)} caught; the code as it is {'passes' if passes else 'does not pass'}")
    if unchanged.startswith("BROKEN"):
        print(unchanged)
    return 0 if all(caught) and passes else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
