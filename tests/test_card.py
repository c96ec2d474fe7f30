"""Pools and scored pictures on a card: the same pictures as on the CPU. Its code is tried here on CPU tensors."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import test_finetuning
import torch
from test_synthetic import drawn, pool, pristine, same

from gmiqa.data import images
from gmiqa.data.images.gather import Packed, to_unit
from gmiqa.data.synthetic import Reference, distorted, store
from gmiqa.data.synthetic.shelf import CardShelf


@pytest.mark.parametrize("options", [{}, {"turn": True, "shrink": 0.6}, {"crop": None}, {"max_side": 50}])
def test_one_gather_from_the_rows_of_a_tensor_equals_crop_after_crop(options):
    mixed = pristine() + [Reference("tall", "generated", pristine(1, 64, 48)[0].image)]
    plain, card = (pool(contents=mixed, reuse=1, draws=20, **options) for _ in range(2))
    card._pictures = CardShelf(torch.device("cpu"), 3)  # rows are added as they are needed
    for step in (0, 1, 2, 9, 0):
        assert same(card.batch(step, 20), plain.batch(step, 20))
        assert all(same(a, b) for a, b in zip(card.triplet(step, 3), plain.triplet(step, 3), strict=True))
    assert set(card._pictures) == set(plain._pictures) and len(card._pictures) <= card.room
    rows = [row for row, _, _ in card._pictures.places.values()]
    assert len(set(rows)) == len(rows) and not set(rows) & set(card._pictures.free)


@pytest.mark.parametrize("size", [(48, 64, 40), (64, 48, 33), (90, 37, 36), (37, 90, 17), (5, 80, 10), (200, 300, 160)])
def test_the_card_shrinks_as_pillow_does_to_the_bit(size):
    h, w, side = size
    pictures = torch.stack([c.image for c in pristine(3, h, w)])
    wanted = torch.stack([images.limit(picture, side) for picture in pictures])
    new = tuple(wanted.shape[2:])
    order = distorted._columns_first((h, w), new)
    assert order is not None and torch.equal(distorted.area(pictures, new, order), wanted)


def test_pixels_are_divided_alike_with_a_number_on_the_device():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(levels), levels.float() / 255)


def test_more_background_threads_and_several_callers_give_the_same_pictures(monkeypatch):
    monkeypatch.setattr(store, "background_threads", lambda: 3)
    p = pool(background=True, reuse=2, draws=10)
    quiet = pool(reuse=2, draws=10)
    wanted = {step: drawn(quiet, step) for step in range(12)}
    with ThreadPoolExecutor(4) as callers:
        found = dict(zip(range(12), callers.map(lambda step: drawn(p, step), range(12)), strict=True))
    assert all(same(found[step], wanted[step]) for step in wanted)
    until = time.monotonic() + 30
    while p._at_work and time.monotonic() < until:
        time.sleep(0.02)
    assert p._at_work == 0 and not p._claimed and not p._asked


def test_a_pool_that_was_pickled_gives_the_same_pictures():
    p = pool(background=True)
    p.batch(0, 8)
    again = pickle.loads(pickle.dumps(p))
    assert len(again._pictures) == 0 and same(drawn(again, 3), drawn(pool(), 3)) and again.identity() == p.identity()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_pool_on_a_card_gives_the_same_pictures():
    """But for single levels of 255: a card adds up in another order."""
    for options in ({}, {"types": range(26), "turn": True, "max_side": 50}):
        here, there = (pool(device=device, background=True, **options) for device in ("cpu", "cuda"))
        for step in (0, 1, 9):
            a, b = drawn(here, step), drawn(there, step).to("cpu")
            assert torch.equal(a.type, b.type) and torch.equal(a.quality, b.quality)
            assert (a.images - b.images).abs().mean() < 0.5 / 255


def test_crops_from_a_card_equal_those_from_memory():
    data = test_finetuning.pictures(8)
    there = replace(data)
    there.packed = Packed(data.pictures, torch.device("cpu"))
    for step, options in enumerate(({}, {"crop": 33}, {"crop": 33, "turn": True}, {"turn": True})):
        for a, b in zip(data.batch(0, step, 4, **options), there.batch(0, step, 4, **options), strict=True):
            assert torch.equal(a, b)
    assert data.on("cpu") is data and there.on("cpu") is there


def test_a_part_of_pictures_on_a_card_shares_their_memory():
    data = test_finetuning.pictures(8)
    there = replace(data)
    there.packed = Packed(data.pictures, torch.device("cpu"))
    rows = np.array([5, 1, 6, 2])
    part = there[rows]
    assert part.packed.memory is there.packed.memory
    for a, b in zip(data[rows].batch(0, 1, 3, 33), part.batch(0, 1, 3, 33), strict=True):
        assert torch.equal(a, b)
