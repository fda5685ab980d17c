"""Every loss once more, term by term in Python floats, from the papers' definitions; nothing here comes from harness.

Embeddings are lists of rows. A loss with stopped gradients has a surrogate too: what stands under the stop-gradient is
held at the given point, so that the surrogate's plain derivative there is the loss's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import mul

Row = Sequence[float]
View = Sequence[Row]
Anchor = tuple[float, list[float]]  # the cosine to the positive, the cosines to the negatives
Pairs = Callable[[View, View], list[Anchor]]
Scalar = Callable[[View, View], float]


def dot(a: Row, b: Row) -> float:
    return math.fsum(map(mul, a, b))


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def transposed(rows: View) -> View:
    return list(zip(*rows, strict=True))


# Who is compared with whom.


def two_views(z1: View, z2: View) -> list[Anchor]:
    """2N anchors, view 1 first; negatives: both views of every other sample, 2N - 2."""
    anchors = []
    for own, other in ((z1, z2), (z2, z1)):
        for i, anchor in enumerate(own):
            negatives = [dot(anchor, view[j]) for view in (z1, z2) for j in range(len(z1)) if j != i]
            anchors.append((dot(anchor, other[i]), negatives))
    return anchors


def cross_view(z1: View, z2: View, columns: Sequence[int] | None = None) -> list[Anchor]:
    """N queries; negatives: the other view's N - 1 other keys, or those at these positions among them."""
    anchors = []
    for i, query in enumerate(z1):
        others = [key for j, key in enumerate(z2) if j != i]
        chosen = others if columns is None else [others[column] for column in columns]
        anchors.append((dot(query, z2[i]), [dot(query, key) for key in chosen]))
    return anchors


def queued(z1: View, z2: View, queue: View) -> list[Anchor]:
    """N queries; negatives: the rows of the queue."""
    return [(dot(query, key), [dot(query, negative) for negative in queue]) for query, key in zip(z1, z2, strict=True)]


def over(anchors: list[Anchor], temperature: float) -> list[Anchor]:
    return [(p / temperature, [n / temperature for n in negatives]) for p, negatives in anchors]


# InfoNCE and its relatives: a mean over anchors.


def infonce(z1: View, z2: View, *, temperature: float, pairs: Pairs = two_views) -> float:
    return mean(log_sum_exp([p, *n]) - p for p, n in over(pairs(z1, z2), temperature))


def dcl(z1: View, z2: View, *, temperature: float, pairs: Pairs = two_views) -> float:
    return mean(log_sum_exp(n) - p for p, n in over(pairs(z1, z2), temperature))


def dclw_weights(anchors: list[Anchor], sigma: float) -> list[float]:
    """w_i = 2 - exp(c_i / sigma) / mean_i exp(c_i / sigma), c_i the positive's cosine."""
    shares = [math.exp(cosine / sigma) for cosine, _ in anchors]
    average = mean(shares)
    return [2 - share / average for share in shares]


def dclw_weighted_by(
    weights: list[float], z1: View, z2: View, *, temperature: float, pairs: Pairs = two_views
) -> float:
    anchors = over(pairs(z1, z2), temperature)
    return mean(log_sum_exp(n) - w * p for w, (p, n) in zip(weights, anchors, strict=True))


def dclw(
    z1: View, z2: View, *, temperature: float, sigma: float, detach_weights: bool, pairs: Pairs = two_views
) -> float:
    del detach_weights  # the value is the same
    weights = dclw_weights(pairs(z1, z2), sigma)
    return dclw_weighted_by(weights, z1, z2, temperature=temperature, pairs=pairs)


def dclw_surrogate(
    z1: View, z2: View, *, temperature: float, sigma: float, detach_weights: bool, pairs: Pairs = two_views
) -> Scalar:
    if not detach_weights:
        return partial(dclw, temperature=temperature, sigma=sigma, detach_weights=False, pairs=pairs)
    weights = dclw_weights(pairs(z1, z2), sigma)
    return partial(dclw_weighted_by, weights, temperature=temperature, pairs=pairs)


def eqco(z1: View, z2: View, *, temperature: float, alpha: float, pairs: Pairs = two_views) -> float:
    """log(exp(p) + alpha / K sum_k exp(n_k)) - p, K the number of the anchor's negatives."""
    terms = []
    for p, negatives in over(pairs(z1, z2), temperature):
        margin = math.log(alpha / len(negatives))
        terms.append(log_sum_exp([p, *(n + margin for n in negatives)]) - p)
    return mean(terms)


def flatnce_surrogate(z1: View, z2: View, *, temperature: float, pairs: Pairs = two_views) -> Scalar:
    """exp(v - stopgrad(v)), v = LSE(n - p); the value that FlatNCE reports is InfoNCE's."""

    def exponents(a: View, b: View) -> list[float]:
        return [log_sum_exp([n - p for n in negatives]) for p, negatives in over(pairs(a, b), temperature)]

    fixed = exponents(z1, z2)
    return lambda a, b: mean(math.exp(v - stopped) for v, stopped in zip(exponents(a, b), fixed, strict=True))


def each_similarity(change: Callable[[float], float], positive_too: bool, pairs: Pairs) -> Pairs:
    """Pairs whose cosines are changed: all of them, or the negatives' only."""

    def changed(z1: View, z2: View) -> list[Anchor]:
        return [(change(p) if positive_too else p, [change(n) for n in negatives]) for p, negatives in pairs(z1, z2)]

    return changed


def square(cosine: float) -> float:
    return cosine * cosine


def simclr_sq(z1: View, z2: View, *, temperature: float, square_positive: bool, pairs: Pairs = two_views) -> float:
    return infonce(z1, z2, temperature=temperature, pairs=each_similarity(square, square_positive, pairs))


def simclr_abs(z1: View, z2: View, *, temperature: float, abs_positive: bool, pairs: Pairs = two_views) -> float:
    return infonce(z1, z2, temperature=temperature, pairs=each_similarity(abs, abs_positive, pairs))


def dcl_sq(z1: View, z2: View, *, temperature: float, square_positive: bool, pairs: Pairs = two_views) -> float:
    return dcl(z1, z2, temperature=temperature, pairs=each_similarity(square, square_positive, pairs))


def dcl_abs(z1: View, z2: View, *, temperature: float, abs_positive: bool, pairs: Pairs = two_views) -> float:
    return dcl(z1, z2, temperature=temperature, pairs=each_similarity(abs, abs_positive, pairs))


# SogCLR: a moving average of every anchor's negatives.


def moving_averages(z1: View, z2: View, temperature: float, gamma: float, log_u: Row) -> list[float]:
    """u = (1 - gamma) u + gamma mean_k exp(n_k) of the 2N anchors; a sample's first visit takes the mean alone."""
    averages = []
    for anchor, (_, negatives) in enumerate(over(two_views(z1, z2), temperature)):
        fresh = mean(math.exp(n) for n in negatives)
        stored = log_u[anchor % len(z1)]
        averages.append(fresh if stored == -math.inf else (1 - gamma) * math.exp(stored) + gamma * fresh)
    return averages


def sogclr(z1: View, z2: View, *, temperature: float, gamma: float, log_u: Row) -> tuple[float, list[float]]:
    """mean_a log((2N - 2) u_a) - p_a, and the log of what is stored: the mean of a sample's two averages."""
    averages = moving_averages(z1, z2, temperature, gamma, log_u)
    terms = [
        math.log(len(negatives) * u) - p
        for u, (p, negatives) in zip(averages, over(two_views(z1, z2), temperature), strict=True)
    ]
    n = len(z1)
    return mean(terms), [math.log((averages[i] + averages[n + i]) / 2) for i in range(n)]


def sogclr_surrogate(z1: View, z2: View, *, temperature: float, gamma: float, log_u: Row) -> Scalar:
    """mean_a [mean_k stopgrad(exp(n_k) / u_a) n_k - p_a]."""
    averages = moving_averages(z1, z2, temperature, gamma, log_u)
    fixed = [
        [math.exp(n) / u for n in negatives]
        for u, (_, negatives) in zip(averages, over(two_views(z1, z2), temperature), strict=True)
    ]

    def surrogate(a: View, b: View) -> float:
        anchors = over(two_views(a, b), temperature)
        return mean(mean(map(mul, w, n)) - p for w, (p, n) in zip(fixed, anchors, strict=True))

    return surrogate


# Losses without anchors.


def clipped(row: Row, mu: float) -> Row:
    norm = math.sqrt(dot(row, row))
    return [x * math.sqrt(mu) / norm for x in row] if norm > math.sqrt(mu) else row


def spectral(z1: View, z2: View, *, mu: float) -> float:
    n = len(z1)
    z1, z2 = [clipped(row, mu) for row in z1], [clipped(row, mu) for row in z2]
    attraction = mean(dot(a, b) for a, b in zip(z1, z2, strict=True))
    repulsion = math.fsum(dot(z1[i], z2[j]) ** 2 for i in range(n) for j in range(n) if i != j)
    return -2 * attraction + repulsion / (n * (n - 1))


def centred(row: Row) -> Row:
    middle = mean(row)
    return [x - middle for x in row]


def covariance_matrix(rows: View) -> View:
    """C_ij between rows over their entries, unbiased."""
    rows = [centred(row) for row in rows]
    return [[dot(a, b) / (len(a) - 1) for b in rows] for a in rows]


def squared_error(z1: View, z2: View) -> float:
    return mean((x - y) ** 2 for a, b in zip(z1, z2, strict=True) for x, y in zip(a, b, strict=True))


def variance_hinge(rows: View) -> float:
    """mean_j max(0, 1 - sqrt(Var(row_j) + 1e-4)), unbiased."""
    variances = [dot(centred(row), centred(row)) / (len(row) - 1) for row in rows]
    return mean(max(0.0, 1 - math.sqrt(v + 1e-4)) for v in variances)


def squared_covariances(rows: View) -> float:
    c = covariance_matrix(rows)
    return math.fsum(c[i][j] ** 2 for i in range(len(c)) for j in range(len(c)) if i != j) / len(c)


def exponential_covariances(rows: View, temperature: float) -> float:
    """c_exp = (1/d) sum_i log sum_{j != i} exp(C_ij / temperature)."""
    c = covariance_matrix(rows)
    return mean(log_sum_exp([c[i][j] / temperature for j in range(len(c)) if j != i]) for i in range(len(c)))


def vicreg(z1: View, z2: View, *, invariance: float, variance: float, covariance: float) -> float:
    k1, k2 = transposed(z1), transposed(z2)
    return math.fsum(
        [
            invariance * squared_error(z1, z2),
            variance * (variance_hinge(k1) + variance_hinge(k2)) / 2,
            covariance * (squared_covariances(k1) + squared_covariances(k2)),
        ]
    )


def vicreg_exp(
    z1: View, z2: View, *, temperature: float, invariance: float, variance: float, covariance: float
) -> float:
    k1, k2 = transposed(z1), transposed(z2)
    return math.fsum(
        [
            invariance * squared_error(z1, z2),
            variance * (variance_hinge(k1) + variance_hinge(k2)) / 2,
            covariance * (exponential_covariances(k1, temperature) + exponential_covariances(k2, temperature)),
        ]
    )


def centred_to_unit_norm(z: View) -> View:
    """Every dimension centred over the batch, then every embedding scaled to norm 1."""
    samples = transposed([centred(dimension) for dimension in transposed(z)])
    return [[x / math.sqrt(dot(row, row)) for x in row] for row in samples]


def vicreg_ctr(
    z1: View,
    z2: View,
    *,
    temperature: float,
    invariance: float,
    variance: float,
    covariance: float,
    unit_norm: bool,
) -> float:
    """VICReg-exp whose variance and covariance are between samples, over the dimensions."""
    if unit_norm:
        z1, z2 = centred_to_unit_norm(z1), centred_to_unit_norm(z2)
    return math.fsum(
        [
            invariance * squared_error(z1, z2),
            variance * (variance_hinge(z1) + variance_hinge(z2)) / 2,
            covariance * (exponential_covariances(z1, temperature) + exponential_covariances(z2, temperature)),
        ]
    )


def standardised(row: Row) -> Row:
    """Mean 0 and biased variance 1, with 1e-5 under the root."""
    row = centred(row)
    return [x / math.sqrt(dot(row, row) / len(row) + 1e-5) for x in row]


def barlow_twins(z1: View, z2: View, *, redundancy: float) -> float:
    k1, k2 = ([standardised(dimension) for dimension in transposed(z)] for z in (z1, z2))
    d, n = len(k1), len(z1)
    c = [[dot(a, b) / n for b in k2] for a in k1]
    on_diagonal = math.fsum((1 - c[i][i]) ** 2 for i in range(d))
    off_diagonal = math.fsum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j)
    return on_diagonal + redundancy * off_diagonal


#: name -> value; SogCLR's has the new averages beside it.
VALUES: dict[str, Callable[..., float]] = {
    "infonce": infonce,
    "dcl": dcl,
    "dclw": dclw,
    "eqco": eqco,
    "flatnce": infonce,
    "simclr_sq": simclr_sq,
    "simclr_abs": simclr_abs,
    "dcl_sq": dcl_sq,
    "dcl_abs": dcl_abs,
    "sogclr": lambda *views, **parameters: sogclr(*views, **parameters)[0],
    "spectral": spectral,
    "vicreg": vicreg,
    "vicreg_exp": vicreg_exp,
    "vicreg_ctr": vicreg_ctr,
    "barlow_twins": barlow_twins,
}

#: name -> (z1, z2, parameters) -> the function whose derivative at (z1, z2) is the loss's gradient.
STOPPED: dict[str, Callable[..., Scalar]] = {
    "dclw": dclw_surrogate,
    "flatnce": flatnce_surrogate,
    "sogclr": sogclr_surrogate,
}


def surrogate(name: str, z1: View, z2: View, **parameters: object) -> Scalar:
    return STOPPED[name](z1, z2, **parameters) if name in STOPPED else partial(VALUES[name], **parameters)
