"""Fine-tuning: the data rule, the losses, predictions that do not depend on batch mates, the synthetic share."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa import recipes
from gmiqa.data import images
from gmiqa.data.pictures import Pictures, synthetic_target
from gmiqa.data.synthetic import Reference
from gmiqa.experiments.size_effect import size_effect
from gmiqa_core import finetuning, losses, network, prediction, resume
from gmiqa_core.batch import random_window
from gmiqa_core.errors import UserError
from gmiqa_core.step import TwoPart

HOW = finetuning.ScoreTraining(loss="nll", batch=6, crop=0, turn=False, lr_backbone=3e-4, lr_head=1e-3, share=0.25)


def pictures(n: int = 12, side: int = 40) -> Pictures:
    """Noise of growing strength on grey: quality falls with the strength; two sizes."""
    g = torch.Generator().manual_seed(0)
    quality = torch.rand(n, generator=g)
    made = [(128 + 100 * (1 - q) * torch.randn(3, side + 8 * (i % 2), side, generator=g)).clamp(0, 255).byte()
            for i, q in enumerate(quality)]
    return Pictures(made, quality, torch.zeros(n))


class Synthetic(TwoPart):
    """Stand-in for the graph objective: reaches the type and level branch."""

    def inputs(self, step, micro):
        return torch.rand(2, 3, 32, 32)

    def outcome(self, model, inputs):
        V = model.nodes(inputs)
        mu, sigma = model.level(V)
        return mu.square().mean() + sigma.mean() + model.classify(V).square().mean(), {"active": mu.mean()}


synthetic = Synthetic()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return network.build("tiny")


def test_batches_are_a_function_of_seed_and_step_and_an_epoch_covers_the_set():
    data = pictures()
    one, two = data.batch(1, 7, 4), data.batch(1, 7, 4)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.images, data.batch(2, 7, 4).images)
    rows = torch.cat([data.batch(0, step, 4).rows for step in range(3)])
    assert sorted(rows.tolist()) == list(range(12))
    assert data.batch(0, 0, 4).images.shape[2:] == (40, 40)  # cut to the smallest of two sizes
    assert data.batch(0, 0, 4, crop=33).images.shape == (4, 3, 33, 33)
    assert len(data.batch(0, 5, 99).rows) == 12


def test_nll_is_least_at_the_true_mean_and_spread():
    quality, spread = torch.tensor(0.6), 0.2
    grid = torch.linspace(0.05, 0.95, 91)
    mu, sigma = torch.meshgrid(grid, grid, indexing="ij")
    values = torch.stack([losses.gaussian_nll(m, s, quality, spread) for m, s in
                          zip(mu.flatten(), sigma.flatten(), strict=True)])
    best = int(values.argmin())
    assert mu.flatten()[best] == pytest.approx(0.6, abs=0.006)
    assert sigma.flatten()[best] == pytest.approx(0.2, abs=0.006)


def test_finetuning_learns_and_keeps_the_other_branches_in_training(tmp_path, model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    how = replace(HOW, lr_backbone=3e-3, lr_head=1e-2)
    tuned, history = finetuning.finetune(model, pictures(), how, steps=24, folder=tmp_path, synthetic=synthetic,
                                         log_every=1, precision="fp32")
    loss = history.metrics.query("name == 'score_loss'")["value"].to_numpy()
    assert loss[-4:].mean() < loss[:4].mean()
    assert (history.metrics["name"] == "synthetic_loss").sum() == 6
    assert not torch.equal(before["level_branch.layers.0.weight"], tuned.level_branch.layers[0].weight)


def test_zero_backbone_rate_leaves_the_backbone(tmp_path, model):
    before = [p.clone() for p in model.backbone.parameters()]
    finetuning.finetune(model, pictures(), replace(HOW, lr_backbone=0.0), steps=2, folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, model.backbone.parameters(), strict=True))


@pytest.mark.parametrize("graph", ("singleton", "bank", "batch"))
def test_every_graph_trains_and_leaves_the_given_model_alone(tmp_path, model, graph):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned, _ = finetuning.finetune(recipes.with_graph(model, graph), pictures(), HOW, steps=2, folder=tmp_path,
                                   evaluate=recipes.Validation(pictures(6), 4))
    assert tuned.config["finetune_graph"] == graph
    if graph != "singleton":
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    if graph == "bank":
        assert tuned.bank.abs().sum() > 0
    mu = prediction.predict(tuned, pictures(4).pictures).mu
    assert ((0 <= mu) & (mu <= 1)).all()


def test_predictions_do_not_depend_on_order_or_batch_mates(model):
    data = pictures(9).pictures
    whole = prediction.predict(model, data, batch=4)
    for i in (0, 5):
        alone = prediction.predict(model, [data[i]])
        assert (whole.mu[i], whole.sigma[i]) == pytest.approx((alone.mu[0], alone.sigma[0]), abs=1e-5)
    back = prediction.predict(model, data[::-1], batch=3)
    np.testing.assert_allclose(back.mu[::-1], whole.mu, atol=1e-5)
    np.testing.assert_allclose(back.sigma[::-1], whole.sigma, atol=1e-5)


def test_views_are_averaged_as_a_mixture(model):
    picture = pictures(1, side=64).pictures
    crops = [prediction.crop_of(picture[0], k, 40) for k in range(2)]
    one, other = (prediction.predict(model, [crop]) for crop in crops)
    both = prediction.predict(model, picture, crops=2, crop=40)
    assert both.mu[0] == pytest.approx((one.mu[0] + other.mu[0]) / 2, abs=1e-6)
    assert both.sigma[0] ** 2 >= min(one.sigma[0], other.sigma[0]) ** 2


def test_turned_crops_are_those_of_the_picture_a_quarter_turn_further(model):
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=generator)
    mirrored = random_window(picture, 40, 40, np.random.default_rng((0, 0, 1)))  # what view 1 sees before its turn
    first, both = (prediction.predict(model, [picture], crops=n, crop=40, turn=True).mu[0] for n in (1, 2))
    turned = prediction.predict(model, [torch.rot90(mirrored, 1, (1, 2))]).mu[0]
    assert 2 * both - first == pytest.approx(turned, abs=1e-6)
    assert turned != pytest.approx(prediction.predict(model, [mirrored]).mu[0], abs=1e-6)
    data = Pictures([picture] * 16, torch.zeros(16), torch.zeros(16))
    seen = data.batch(0, 0, 16, turn=True).images
    eight = [torch.rot90(p, k, (1, 2)) for p in (picture, picture.flip(2)) for k in range(4)]
    assert all(any(torch.equal(x, p) for p in eight) for x in seen) and len({x.numpy().tobytes() for x in seen}) > 4


def test_a_data_set_is_read_under_the_one_rule_for_large_pictures(tmp_path):
    for name, size in (("a.png", (60, 90)), ("b.png", (30, 20))):
        images.write(torch.zeros(3, *size, dtype=torch.uint8), tmp_path / name)
    table = pd.DataFrame({"image": ["a.png", "b.png"], "quality": [0.25, 0.75]})
    data = Pictures.read(SimpleNamespace(root=tmp_path, table=table), [1, 0], max_side=45)
    assert [tuple(p.shape) for p in data.pictures] == [(3, 32, 32), (3, 32, 45)]
    assert data.quality.tolist() == [0.75, 0.25]


def test_narrow_pictures_are_padded_to_what_the_network_needs(tmp_path, model):
    x = torch.randint(0, 256, (3, 100, 1700), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images.write(x, tmp_path / "a.png")
    table = pd.DataFrame({"image": ["a.png"], "quality": [0.5]})
    data = Pictures.read(SimpleNamespace(root=tmp_path, table=table), [0], max_side=512)
    (picture,), small = data.pictures, images.limit(x, 512)
    assert small.shape == (3, 30, 512) and picture.shape == (3, 32, 512) and picture.dtype == torch.uint8
    assert torch.equal(picture[:, :30], small) and torch.equal(picture[:, 30:], small[:, -1:].expand(3, 2, 512))
    assert torch.isfinite(model.eval()(images.to_float(data.batch(0, 0, 1, 128).images))[0]).all()


def test_a_synthetic_target_tests_every_cell_on_contents_without_labels():
    contents = [Reference(name, "generated", torch.randint(0, 256, (3, 40, 48), dtype=torch.uint8)) for name in "ab"]
    few, test = synthetic_target(contents[:1], contents[1:], [10, 11], labels=6, max_side=40)
    assert len(few) == 6 and set(few.facts["type"]) <= {"jpeg", "white_noise"}
    assert len(test) == 125 and test.facts.groupby(["type", "level"]).size().eq(1).all()
    assert max(test.pictures[0].shape) == 40
    assert (few.spread > 0).all() and not torch.equal(few.drawn(0), few.quality)


def test_a_limit_beyond_the_picture_changes_nothing(model):
    effect = size_effect(model, pictures(3, side=64).pictures, [200, 100, 40])
    wide = effect.pivot(index="picture", columns="max_side", values="mu")
    assert (wide[200] == wide[100]).all() and (wide[200] != wide[40]).any()


def test_an_unknown_loss_is_refused(tmp_path, model):
    with pytest.raises(UserError, match="nll, mse, quality_aware"):
        finetuning.finetune(model, pictures(), replace(HOW, loss="l1"), steps=1, folder=tmp_path)


def test_another_objective_is_another_run(tmp_path, model, capsys):
    for batch in (6, 4):
        finetuning.finetune(model, pictures(), replace(HOW, batch=batch), steps=1, folder=tmp_path)
    assert "batch 6 -> 4" in capsys.readouterr().out
    assert resume.load_checkpoint(tmp_path / "last.ckpt")["identity"]["batch"] == 4
