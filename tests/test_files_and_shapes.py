"""Files that appear whole or not at all; pictures of one shape in one stack."""

import os

import numpy as np
import pytest
import torch

from gmiqa.data import images
from gmiqa_core.files import write_atomically, written_atomically
from gmiqa_core.shapes import WAITING, by_shape


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"first")
    with pytest.raises(RuntimeError), written_atomically(path) as beside:
        beside.write_bytes(b"half of the sec")
        raise RuntimeError
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["a.txt"]
    with written_atomically(path) as beside:
        beside.write_bytes(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second" and os.listdir(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "a.txt", b"")
    assert not os.listdir(tmp_path)


def pictures(n, kinds, seed=0):
    rng = np.random.default_rng(seed)
    heights = 4 + rng.integers(kinds, size=n)
    return [torch.full((3, int(height), 5), i, dtype=torch.int32) for i, height in enumerate(heights)]


@pytest.mark.parametrize("kinds", [1, 3, 100])
def test_every_position_comes_once_with_its_own_picture(kinds):
    given = pictures(50, kinds)
    met = []
    for positions, stack in by_shape(given, 4):
        assert 1 <= len(positions) == len(stack) <= 4
        assert all(torch.equal(x, given[i]) for i, x in zip(positions, stack, strict=True))
        met += positions
    assert sorted(met) == list(range(50))


@pytest.mark.parametrize("kinds", [1, 7, 1000])
def test_a_generator_is_taken_only_as_far_as_needed(kinds):
    taken, yielded = 0, 0

    def generator():
        nonlocal taken
        for picture in pictures(200, kinds):
            taken += 1
            yield picture

    for positions, _ in by_shape(generator(), 3):
        assert taken - yielded <= WAITING * 3 + 1
        yielded += len(positions)
    assert yielded == 200


def test_a_stack_is_full_by_pictures_or_by_pixels():
    small, large = [torch.zeros(3, 4, 4)] * 5, [torch.zeros(3, 10, 10)] * 5
    sizes = [(tuple(stack.shape[2:]), len(stack)) for _, stack in by_shape([*small, *large], 4, pixels=150)]
    assert sizes == [((4, 4), 4), ((10, 10), 2), ((10, 10), 2), ((4, 4), 1), ((10, 10), 1)]


def test_types_do_not_mix():
    stacks = list(by_shape([torch.zeros(2), torch.zeros(2, dtype=torch.uint8), torch.ones(2)], 4))
    assert [positions for positions, _ in stacks] == [[0, 2], [1]]


def test_decoded_pictures_are_a_sequence_that_keeps_none(tmp_path):
    made = [torch.randint(0, 256, (3, 8 + i, 9), dtype=torch.uint8) for i in range(20)]
    paths = [images.write(x, tmp_path / f"{i}.png") for i, x in enumerate(made)]
    decoded = images.Decoded([*paths, made[0] / 255])
    assert len(decoded) == 21 and torch.equal(decoded[3], made[3]) and torch.equal(decoded[20], made[0])
    assert all(torch.equal(a, b) for a, b in zip(decoded, [*made, made[0]], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(decoded[2:5], made[2:5], strict=True))
    assert images.Decoded(paths, 6)[0].shape == (3, 5, 6)
    os.unlink(paths[7])
    with pytest.raises(images.ImageError, match="7.png"):
        list(decoded)
