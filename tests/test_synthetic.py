"""Synthetic data: contents and their split, pools as pure functions of (seed, step), real records, test sets."""

import gc
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa import recipes
from gmiqa.data import images, synthetic
from gmiqa.data.datasets import Dataset, Scale
from gmiqa.data.distortions import calibration, distort
from gmiqa.data.pictures import Pictures
from gmiqa.data.synthetic import Pool, RecordPool, Reference, bring_to_size, references, split_references
from gmiqa.settings import load
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError

ROOT = Path(__file__).parent.parent
FEW = [1, 10, 11, 20]


def pristine(n=6, h=48, w=64):
    generator = torch.Generator().manual_seed(0)
    return [
        Reference(f"c{i}", "generated", torch.randint(0, 256, (3, h, w), generator=generator, dtype=torch.uint8))
        for i in range(n)
    ]


def pool(**options):
    options = {"types": FEW, "crop": 32, "per_cell": 1, "background": False, **options}
    return Pool(options.pop("contents", None) or pristine(), **options)


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Batch.__dataclass_fields__)


def drawn(p, step):
    return Batch.cat([p.batch(step, 8), *p.triplet(step, 3), *p.task(step, 10, 4, 4)])


def test_a_batch_is_a_pure_function_of_seed_and_step():
    first = [drawn(pool(), step) for step in (0, 1, 9)]
    for background in (False, True):
        other = pool(background=background)
        for step, wanted in zip((9, 0, 1), (first[2], first[0], first[1]), strict=True):
            assert same(drawn(other, step), wanted)
    assert not torch.equal(first[0].images, first[1].images)
    assert not torch.equal(pool(seed=1).batch(0, 8).images, pool().batch(0, 8).images)


def test_a_pool_of_other_contents_or_sizes_is_another():
    first = pool().identity()
    assert first == pool(background=True).identity() and all(isinstance(value, str) for value in first.values())
    assert first != pool(shrink=0.5).identity() and first != pool(contents=pristine()[1:]).identity()


def test_draws_do_not_depend_on_earlier_draws_or_on_the_global_generator():
    torch.manual_seed(3)
    p = pool()
    p.batch(5, 9)
    assert same(p.task(2, 11, 3, 5)[1], pool().task(2, 11, 3, 5)[1])


def test_labels_are_the_calibrated_ones():
    b = pool().batch(0, 20)
    assert b.images.shape == (20, 3, 32, 32) and b.images.dtype == torch.float32
    assert 0 <= b.images.min() and b.images.max() <= 1
    torch.testing.assert_close(b.quality, calibration.QUALITY[b.type - 1, b.level - 1])
    torch.testing.assert_close(b.spread, calibration.SPREAD[b.type - 1, b.level - 1])
    torch.testing.assert_close(b.severity, 1 - b.quality)


def test_a_batch_holds_every_cell_before_any_comes_twice():
    b = pool().batch(0, 20)
    cells = Counter(zip(b.type.tolist(), b.level.tolist(), strict=True))
    assert set(cells.values()) == {1} and len(cells) == 20


def test_a_triplet_has_two_types():
    anchor, positive, negative = pool().triplet(0, 5)
    assert len(anchor) == len(positive) == len(negative) == 5
    assert set(anchor.type.tolist()) == set(positive.type.tolist()) != set(negative.type.tolist())
    assert len(set(negative.type.tolist())) == 1


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "params").glob("*.yaml")))
@pytest.mark.parametrize("contents", [19, 60])
def test_anchor_and_positive_share_neither_content_nor_picture(preset, contents):
    """At every size that a preset trains on. The negative takes the anchor's contents as far as its type has them."""
    settings = load(ROOT / "params" / f"{preset}.yaml", overrides={"graph_crop": 32, "pretrain_on": "synthetic"})
    p, n = recipes.graph_pool(settings, pristine(contents, 8, 8)), max(settings.graph_sizes)
    for step in (0, 7, 400, 3000, 12_000, 12_001, 30_000, 30_003):
        slots = p._triplet(step, n, np.random.default_rng(step))
        anchor, positive, negative = (p._table(s) for s in slots)
        assert [len(s) for s in slots] == [n] * 3 and not set(slots[0]) & set(slots[1])
        assert set(anchor.type) == set(positive.type) != set(negative.type) and len(set(negative.type)) == 1
        assert 0 not in (anchor.type[0], negative.type[0]) and not set(anchor.content) & set(positive.content)
        there = p._table(p._typed(step, int(negative.type[0]))).content
        wanted = min(n, int(np.isin(there, anchor.content).sum()))
        assert int(np.isin(negative.content, anchor.content).sum()) >= wanted
        if step > 10_000:  # the window is full
            assert sum(len(set(s)) for s in slots[:2]) >= 1.8 * n


@pytest.mark.parametrize("sizes", [(4, 4), (1, 9), (20, 2)])
def test_support_and_query_share_no_content(sizes):
    p = pool(contents=pristine(3))
    for step in range(5):
        support, query = p.task(step, 10, *sizes)
        assert (len(support), len(query)) == sizes
        assert not set(support.content.tolist()) & set(query.content.tolist())
        assert set(support.type.tolist()) | set(query.type.tolist()) == {10}


@pytest.mark.parametrize("sizes", [(5, 5), (10, 10), (5, 10)])
def test_a_task_shows_hardly_a_picture_twice_and_all_levels(sizes):
    p = pool(contents=pristine(16), per_cell=4, reuse=20, filled=True)
    for step in range(4):
        for part in p.task(step, 10, *sizes):
            shown = list(zip(part.content.tolist(), part.level.tolist(), strict=True))
            counts = np.bincount(part.level.numpy(), minlength=6)[1:]
            assert len(set(shown)) >= len(shown) - 1 and counts.min() > 0 and counts.max() - counts.min() <= 2


def test_a_filled_window_has_its_length_from_the_start_and_moves_on():
    p = pool(per_cell=3, reuse=2, draws=10, filled=True)
    assert [len(p._window(step)) for step in (0, 1, 50)] == [60, 60, 60]
    assert p._window(1)[-1] == 64


def test_the_window_starts_with_a_round_grows_and_moves_on():
    p = pool(per_cell=3, reuse=2, draws=10)  # 20 cells; 5 slots enter with a step
    assert [len(p._window(step)) for step in (0, 1, 4, 8, 50)] == [20, 25, 40, 60, 60]
    assert np.setdiff1d(p._window(51), p._window(50)).tolist() == list(range(20 + 255 - 5, 20 + 255))
    for step in (0, 3, 50, 53):
        table = p._table(p._window(step))
        assert len(set(zip(table.type.tolist(), table.level.tolist(), strict=True))) == 20


def test_a_pool_without_reuse_stays_as_it_is():
    p = pool(per_cell=3, reuse=None)
    assert p._window(0).tolist() == p._window(10**6).tolist() == list(range(60))


def test_a_type_meets_every_content_before_one_comes_again():
    p = pool(per_cell=6)
    table = p._table(np.arange(6 * 20))
    for type in FEW:
        assert set(Counter(table.content[table.type == type].tolist()).values()) == {5}


def test_old_pictures_are_forgotten_and_come_back_the_same():
    p = pool(reuse=1, draws=20)
    early = p.batch(0, 20)
    for step in range(1, 9):
        p.batch(step, 20)
    assert len(p._pictures) <= 3 * 20
    assert same(p.batch(0, 20), early)
    assert not torch.equal(p.batch(1, 20).images, early.images)


def test_the_background_fills_the_window_and_a_round_ahead():
    p = pool(background=True, reuse=1, draws=20)
    p.batch(0, 2)
    until = time.monotonic() + 30
    while len(p._pictures) < 40 and time.monotonic() < until:
        time.sleep(0.02)
    assert sorted(p._pictures) == list(range(40))
    p._fill = None  # nothing is left to do for the caller
    p.batch(0, 20)
    p.batch(1, 20)


def test_an_error_in_the_background_reaches_the_caller(monkeypatch):
    p = pool(background=True)
    p.batch(0, 2)

    def broken(*_):
        raise OSError("disk gone")

    monkeypatch.setattr(p, "_fill", broken)
    with pytest.raises(OSError, match="disk gone"):
        p.batch(400, 20)


def test_a_pool_that_nobody_holds_goes_away():
    p = pool(background=True)
    p.batch(0, 2)
    gone = weakref.ref(p)
    del p
    until = time.monotonic() + 30
    while gone() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    assert gone() is None


def test_pictures_are_distorted_whole_and_then_cropped():
    content = pristine(1)
    p = Pool(content, types=[10], crop=32, per_cell=1, background=False)
    b = p.batch(0, 5)
    whole = distort(content[0].image[None].float() / 255, 10, 3)
    crop = b.images[b.level == 3]
    windows = whole.unfold(2, 32, 1).unfold(3, 32, 1)[0].permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)
    distance = min((windows - c).abs().amax(dim=(1, 2, 3)).min() for c in (crop, crop.flip(-1)))
    assert distance <= 0.5001 / 255


def test_shrunk_pictures_are_shrunk_after_their_distortion():
    b = Pool(pristine(2, 96, 128), types=[10], crop=40, max_side=64, per_cell=1, background=False).batch(0, 5)
    assert b.images.shape == (5, 3, 40, 40)
    narrow = Pool(pristine(2, 40, 128), types=[10], crop=40, max_side=64, per_cell=1, background=False)
    assert narrow.batch(0, 5).images.shape == (5, 3, 40, 40)


def test_a_pool_that_shrinks_takes_contents_in_three_sizes_and_keeps_cells_and_contents():
    p, plain = (pool(shrink=shrink, types=FEW, per_cell=3, draws=1, reuse=None) for shrink in (0.75, 1.0))
    b, a = p.batch(0, 60), plain.batch(0, 60)
    assert torch.equal(b.content, a.content) and torch.equal(b.type, a.type) and torch.equal(b.level, a.level)
    assert {tuple(picture.shape[1:]) for picture in p._pictures.values()} == {(48, 64), (42, 56), (36, 48)}
    assert {tuple(picture.shape[1:]) for picture in plain._pictures.values()} == {(48, 64)}
    assert {tuple(x.shape[1:]) for x in pool(shrink=0.5)._whole} == {(48, 64), (36, 48), (32, 32)}  # mirrored to a crop
    with pytest.raises(UserError, match="shrink"):
        pool(shrink=0)


def test_a_pool_that_turns_hands_out_the_same_crops_in_four_positions():
    p, plain = (pool(turn=turn, types=FEW, per_cell=3, draws=1, reuse=None) for turn in (True, False))
    b, a = p.batch(0, 60), plain.batch(0, 60)
    assert torch.equal(b.content, a.content) and torch.equal(b.level, a.level)
    positions = [[torch.equal(torch.rot90(y, k, (1, 2)), x) for k in range(4)]
                 for x, y in zip(b.images, a.images, strict=True)]
    assert all(any(row) for row in positions) and all(any(column) for column in zip(*positions, strict=True))
    with pytest.raises(UserError, match="square"):
        pool(turn=True, crop=None)


def test_without_a_crop_pictures_stay_whole():
    mixed = pristine(2) + [Reference("tall", "generated", pristine(1, 64, 48)[0].image)]
    assert Pool(pristine(2), types=[1], crop=None, background=False).batch(0, 4).images.shape == (4, 3, 48, 64)
    assert Pool(mixed, types=[1], crop=None, background=False).batch(0, 15).images.shape == (15, 3, 48, 48)


def test_undistorted_pictures_are_a_type_of_their_own_if_asked_for():
    p = pool(types=[0, 10])
    b = p.batch(0, 10)
    assert set(b.type.tolist()) == {0, 10}
    clean = b[b.type == 0]
    assert set(clean.level.tolist()) == {0} and clean.quality[0] == pytest.approx(0.9, abs=0.005)


def test_size_is_about_the_area_asked_for_and_never_enlarged():
    big = torch.zeros(3, 1000, 1500, dtype=torch.uint8)
    h, w = bring_to_size(big).shape[-2:]
    assert h * w == pytest.approx(384 * 512, rel=0.01) and w / h == pytest.approx(1.5, rel=0.01)
    tall = bring_to_size(big.transpose(1, 2)).shape[-2:]
    assert tuple(tall) == (w, h)
    small = pristine(1, 20, 30)[0].image
    assert bring_to_size(small) is small
    mirrored = bring_to_size(small, least=48)
    assert mirrored.shape == (3, 48, 48) and torch.equal(mirrored[:, :20, :30], small)
    assert torch.equal(mirrored[:, 20], mirrored[:, 19])


def test_a_folder_of_pictures_is_a_source(tmp_path):
    for name, content in zip(("b.png", "sub/a.png"), pristine(2), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.write(content.image, tmp_path / name)
    found = references(tmp_path)
    assert sorted(c.name for c in found) == ["b.png", "sub/a.png"] and {c.kind for c in found} == {"folder"}
    assert len(references(tmp_path, limit=1)) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No pictures"):
        references(tmp_path / "empty")


def test_embedded_contents_hold_photographs_first():
    found = references("embedded", limit=8)
    assert [c.kind for c in found].count("photograph") == 7 and found[7].kind == "generated"
    assert all(c.image.dtype == torch.uint8 and c.image.shape[0] == 3 for c in found)


@pytest.mark.parametrize("n", [3, 4, 7, 25])
def test_a_split_is_disjoint_complete_stratified_and_seeded(n):
    everything = pristine(n) + [Reference(f"p{i}", "photograph", c.image) for i, c in enumerate(pristine(7))]
    parts = split_references(everything, seed=1)
    names = [c.name for part in parts for c in part]
    assert sorted(names) == sorted(c.name for c in everything) and len(set(names)) == len(names)
    assert all({c.kind for c in part} == {"photograph", "generated"} for part in parts)
    again = split_references(everything[::-1], seed=1)
    assert [[c.name for c in part] for part in again] == [[c.name for c in part] for part in parts]
    assert split_references(everything, seed=1, fractions=(1.0, 0.0, 0.0))[1:] == ([], [])


def test_a_test_set_holds_every_cell_of_every_content():
    t = synthetic.test_set(pristine(2), types=[0, "jpeg", 11], levels=[1, 5], crop=32)
    assert len(t) == 2 * (1 + 2 * 2) and t.images.shape[1:] == (3, 32, 32)
    cells = Counter(zip(t.content.tolist(), t.type.tolist(), t.level.tolist(), strict=True))
    assert set(cells.values()) == {1}
    torch.testing.assert_close(t.severity, 1 - t.quality)
    assert same(t, synthetic.test_set(pristine(2), types=[0, "jpeg", 11], levels=[1, 5], crop=32))
    assert len(list(synthetic.test_batches(pristine(2), types=[1]))) == 2


def test_more_pictures_than_are_distorted_at_a_time_are_what_each_is_alone():
    contents = pristine(3)
    whole = next(synthetic.test_batches(contents[2:], stored=True))
    assert len(whole) == 125 and whole.images.dtype == torch.uint8
    one = [next(synthetic.test_batches(contents[2:], [t], [v], stored=True)).images[0]
           for t, v in zip(whole.type.tolist(), whole.level.tolist(), strict=True)]
    assert torch.equal(whole.images, torch.stack(one)) and 0 < whole.images.float().std()
    alike = next(synthetic.test_batches(contents[2:]))
    assert torch.equal(alike.images, whole.images / 255)
    kept, stored = Pictures.of_batch(alike), Pictures.of_batch(whole)
    assert all(map(torch.equal, kept.pictures, stored.pictures)) and kept.facts.equals(stored.facts)


@pytest.fixture
def records(tmp_path):
    rows = []
    for reference, content in enumerate(pristine(4)):
        for type in (1, 10):
            for level in (1, 2, 3, 4, 5):
                path = tmp_path / f"I{reference}_{type}_{level}.png"
                images.write(content.image, path)
                rows.append((str(path), f"I{reference}", type, level, 5 - 0.8 * level + 0.01 * reference, 0.4))
    table = pd.DataFrame(rows, columns=["image", "reference", "type_id", "level", "score", "spread"])
    scale = Scale(1, 5)
    table["quality"] = scale.quality(table["score"])
    return Dataset("kadid10k", tmp_path, table, scale, "reference")


def test_real_records_give_the_same_four_kinds_of_batches_with_their_own_scores(records):
    inside = np.flatnonzero(records.table["reference"] != "I3")
    p, q = (RecordPool(records, inside, crop=32, per_cell=2, background=b) for b in (True, False))
    for step in (0, 7):
        b = Batch.cat([p.batch(step, 8), *p.triplet(step, 3), *p.task(step, 10, 4, 4)])
        assert same(b, Batch.cat([q.batch(step, 8), *q.triplet(step, 3), *q.task(step, 10, 4, 4)]))
    assert set(b.content.tolist()) <= {0, 1, 2}
    torch.testing.assert_close(b.quality, (4 - 0.8 * b.level + 0.01 * b.content) / 4)
    torch.testing.assert_close(b.spread, torch.full_like(b.spread, 0.1))
    torch.testing.assert_close(b.severity, 1 - calibration.QUALITY[b.type - 1, b.level - 1])
    support, query = p.task(1, 1, 3, 3)
    assert not set(support.content.tolist()) & set(query.content.tolist())


def test_wrong_use_is_refused_by_name(records):
    with pytest.raises(UserError, match="at least one pristine"):
        Pool([])
    with pytest.raises(UserError, match="jpeg"):
        pool(types=["jpg"])
    with pytest.raises(UserError, match="not in this pool"):
        pool().task(0, 9, 2, 2)
    with pytest.raises(UserError, match="two contents"):
        pool(contents=pristine(1)).task(0, 10, 2, 2)
    with pytest.raises(UserError, match="two distortion types"):
        pool(types=[0, 1]).triplet(0, 2)
    with pytest.raises(UserError, match="two contents"):
        pool(contents=pristine(1)).triplet(0, 2)
    with pytest.raises(UserError, match="step"):
        pool().batch(-1, 2)
    with pytest.raises(UserError, match="reuse"):
        pool(reuse=0)
    with pytest.raises(UserError, match="fractions"):
        split_references(pristine(), fractions=(0.5, 0.5, 0.5))
    records.table["type_id"] = 0
    with pytest.raises(UserError, match="KADID-10k has"):
        RecordPool(records)
