"""Losses that a user might have written; most of them end badly."""

import torch


def wide_margin(z1, z2, *, temperature=0.1, margin=0.3):
    """Positives attract until their cosine is above 1 - margin."""
    return torch.relu(1 - margin - (z1 * z2).sum(dim=1)).mean() / temperature


def broken(z1, z2, *, temperature=0.1):
    """It raises an error."""
    raise RuntimeError("the matrix at step 3 is singular")


def too_large(z1, z2, *, temperature=0.1):
    """It has no room."""
    raise MemoryError("no room for 10 GiB")


def second_rank_fails(z1, z2, *, temperature=0.1):
    """It raises an error on the second rank only."""
    if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
        raise RuntimeError("this rank has a bad day")
    return -(z1 * z2).sum(dim=1).mean() / temperature
