"""Recipes: settings become trainings in one place; pre-training on KADID-10k's own pictures."""

from pathlib import Path

import pytest
import test_datasets
import torch

from gmiqa import recipes, settings
from gmiqa.data import synthetic
from gmiqa_core import checkpoints

ROOT = Path(__file__).parents[1]


def tiny(**values):
    return settings.load(ROOT / "params/tiny.yaml", overrides=values)


@pytest.fixture
def contents(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    made = [synthetic.Reference(f"c{k}", "generated", torch.randint(0, 256, (3, 72, 96), dtype=torch.uint8,
                                                                  generator=generator)) for k in range(6)]
    monkeypatch.setattr(synthetic, "references", lambda source, limit=None: made)
    return made


def test_references_are_split_before_anything_else(contents):
    parts = recipes.references(tiny())
    names = [c.name for part in (parts.train, parts.validation, parts.test) for c in part]
    assert sorted(names) == sorted(c.name for c in contents) and parts.test


def test_held_out_types_are_in_no_pool(contents):
    p = tiny(held_out=["jpeg", "white_noise"])
    learn = recipes.references(p).train
    for pool in (recipes.meta_pool(p, learn), recipes.graph_pool(p, learn), recipes.branch_pool(p, learn)):
        assert not {10, 11} & set(pool.types)


def test_the_same_settings_are_the_same_training(contents, tmp_path):
    p, prints = tiny(precision="fp32"), []
    for folder in ("a", "b"):
        learn = recipes.references(p).train
        model = recipes.new_network(p, 0)
        trained, _ = recipes.meta_pretrain(p, model, recipes.meta_pool(p, learn), 0, tmp_path / folder / "meta")
        model = recipes.take_over(model, trained)
        model, _ = recipes.graph_pretrain(p, model, recipes.graph_pool(p, learn), tmp_path / folder / "graph", 0)
        prints.append(model.state_dict())
    assert all(torch.equal(value, prints[1][name]) for name, value in prints[0].items())


def test_kadid10k_is_pre_trained_on_with_its_own_scores(contents, tmp_path):
    test_datasets.kadid10k(tmp_path / "kadid", 8)
    p = tiny(pretrain_on="kadid10k", pretrain_path=str(tmp_path / "kadid"), precision="fp32")
    pools = recipes.meta_pool(p, []), recipes.graph_pool(p, [])
    for pool in pools:
        assert isinstance(pool, synthetic.RecordPool) and 10 not in pool.types  # jpeg is held out
    model = recipes.new_network(p, 0)
    trained, history = recipes.meta_pretrain(p, model, pools[0], 0, tmp_path / "meta")
    model = recipes.take_over(model, trained)
    model, history = recipes.graph_pretrain(p, model, pools[1], tmp_path / "graph", 0)
    assert history.last["step"] == p.graph_steps
    saved = checkpoints.save(model, tmp_path / "graph.safetensors", stage="30")
    assert checkpoints.load(saved)[0].config == model.config


def test_a_run_of_epochs_counts_the_pictures_it_learns_from():
    assert recipes.finetune_steps(tiny(finetune_epochs=3, finetune_batch=4), 10) == 6
    assert recipes.finetune_steps(tiny(finetune_epochs=0, finetune_steps=7), 10) == 7


def test_pictures_to_test_on_may_come_from_another_folder(monkeypatch):
    made = {name: [synthetic.Reference(f"{name}{k}", "folder", torch.zeros(3, 72, 96, dtype=torch.uint8))
                   for k in range(10)] for name in ("learn", "test")}
    monkeypatch.setattr(synthetic, "references", lambda source, limit=None: made[source])
    parts = recipes.references(tiny(data="learn", test_data="test"))
    assert parts.test == made["test"] and (len(parts.train), len(parts.validation)) == (8, 2)
    assert {c.name for c in parts.train + parts.validation} == {c.name for c in made["learn"]}


def test_a_drawn_part_of_the_target_is_that_part(contents):
    p = tiny(finetune_contents=2)
    parts = recipes.references(p)
    whole, part = recipes.target(p, parts), recipes.target(p, parts, 40)
    place = {name: k for k, name in enumerate(whole.test.facts["id"])}
    assert len(part.test) == 40 and len(whole.test) == 125 * len(parts.test[:2])
    assert all(torch.equal(picture, whole.test.pictures[place[name]])
               for name, picture in zip(part.test.facts["id"], part.test.pictures, strict=True))
    assert part.train.facts.equals(whole.train.facts)
