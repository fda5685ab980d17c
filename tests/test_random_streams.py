"""Draws depend on what they are for, and on nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import Views
from harness.random_streams import permutation, stream
from harness.ssl.data.augmentation_parameters import draw
from harness.ssl.models.initial_weights import torch_generator


@given(st.integers(0, 2**31), st.integers(0, 1000))
def test_a_stream_is_a_function_of_its_key(seed: int, epoch: int) -> None:
    first, again = (stream(seed, "order", epoch).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_streams_of_other_keys_differ() -> None:
    keys = [(0, "order", 0), (1, "order", 0), (0, "views", 0), (0, "order", 1), (0, "order", 0, 1)]
    assert len({float(stream(*key).random()) for key in keys}) == len(keys)


def test_a_permutation_holds_every_index_once() -> None:
    assert sorted(permutation(3, "order", 100, 7)) == list(range(100))


def test_draws_are_pinned() -> None:
    # Philox and SeedSequence are stable between numpy releases; these numbers are behind every record.
    np.testing.assert_array_equal(permutation(0, "order", 8, 0), [0, 1, 2, 3, 5, 6, 7, 4])
    assert torch_generator(0, "weights encoder.conv1").initial_seed() == 3866837067727062730


def test_a_samples_views_do_not_depend_on_how_many_samples_there_are() -> None:
    torch.testing.assert_close(draw(0, 3, 10, Views())[:, :4], draw(0, 3, 4, Views()), rtol=0, atol=0)


def test_views_differ_between_epochs_seeds_and_each_other() -> None:
    drawn = [draw(seed, epoch, 5, Views())[view] for seed, epoch, view in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    assert len({tuple(rows.flatten().tolist()) for rows in drawn}) == 4
