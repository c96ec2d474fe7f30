"""The meta-gradient against torch.func, BatchNorm left alone, adaptation without leaks."""

from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from gmiqa_core import meta_learning, network, training
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.meta_learning import MetaLearner, MetaObjective


def regressor(dtype=torch.float32) -> network.QualityRegressor:
    torch.manual_seed(0)
    return network.QualityRegressor(network.build("tiny")).to(dtype)


class FakePool:
    """Pictures whose brightness is the quality, through a slope that is the task's own."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype

    def batch(self, step, n):
        g = torch.Generator().manual_seed(step)
        quality = torch.rand(n, generator=g, dtype=self.dtype)
        images = (quality.view(-1, 1, 1, 1) + 0.2 * torch.rand(n, 3, 32, 32, generator=g, dtype=self.dtype)).clamp(0, 1)
        return SimpleNamespace(images=images, quality=quality)

    def task(self, step, type, support, query):
        parts = self.batch(1000 * type + 2 * step, support), self.batch(1000 * type + 2 * step + 1, query)
        for part in parts:
            part.quality = part.quality * (0.5 + 0.1 * type)
        return parts


def reference_gradient(meta, support, query, inner_steps, first_order, rates):
    """One meta-step by torch.func, written independently of learn2learn."""
    model = meta.model
    start = {k: v.detach().clone() for k, v in model.named_parameters()}

    def loss(weights, batch):
        buffers = {k: v.clone() for k, v in model.named_buffers()}
        out = functional_call(model, ({**weights, **buffers}), (batch.images,))
        return (out - batch.quality).square().mean()

    def outer(weights, rates):
        fast = weights
        for _ in range(inner_steps):
            inner = torch.func.grad(loss)(fast, support)
            if first_order:
                inner = {k: g.detach() for k, g in inner.items()}
            fast = {k: fast[k] - rates[k] * inner[k] for k in fast}
        return loss(fast, query)

    rates = {k: r.detach() for k, r in zip(start, rates, strict=True)}
    return torch.func.grad(outer, argnums=(0, 1))(start, rates)


@pytest.mark.parametrize("algorithm", meta_learning.ALGORITHMS)
@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_gradient_of_one_meta_step_equals_torch_func(algorithm, first_order, inner_steps):
    meta = MetaLearner(regressor(torch.float64), algorithm, first_order, 0.05, inner_steps).train()
    objective = MetaObjective(FakePool(torch.float64), types=[3], support=4, query=4)
    loss, _ = objective(meta, 0, 0)
    loss.backward()
    names = [name for name, _ in meta.model.named_parameters()]
    fixed = [torch.tensor(0.05, dtype=torch.float64)] * len(names)
    rates = list(meta.learner.lrs) if algorithm == "meta-sgd" else fixed
    weights, rate_gradients = reference_gradient(meta, *objective.task(0, 0), inner_steps, first_order, rates)
    for name, p in meta.model.named_parameters():
        torch.testing.assert_close(p.grad, weights[name], rtol=1e-7, atol=1e-10, msg=name)
    if algorithm == "meta-sgd":
        for name, rate in zip(names, meta.learner.lrs, strict=True):
            torch.testing.assert_close(rate.grad, rate_gradients[name], rtol=1e-7, atol=1e-10, msg=name)


def test_running_statistics_are_not_touched_by_training(tmp_path):
    meta = MetaLearner(regressor())
    before = [b.clone() for b in meta.buffers()]
    history = training.train(meta, MetaObjective(FakePool(), [1, 2, 3], tasks=2, support=4, query=4), steps=2, lr=1e-3,
                             folder=tmp_path, accumulate=2, log_every=1)
    assert all(torch.equal(a, b) for a, b in zip(before, meta.buffers(), strict=True))
    assert {"support_loss", "query_loss", "support_drop"} <= set(history.metrics["name"])


def test_meta_sgd_trains_its_rates(tmp_path):
    meta = MetaLearner(regressor(), "meta-sgd", inner_lr=0.01)
    meta_learning.train(meta, MetaObjective(FakePool(), [1, 2], tasks=1, support=4, query=4), steps=1, lr=1e-3,
                        folder=tmp_path)
    assert any((rate != 0.01).any() for rate in meta.learner.lrs)


def test_a_meta_batch_holds_distinct_types():
    seen = []
    pool = SimpleNamespace(task=lambda step, type, support, query: seen.append(type))
    objective = MetaObjective(pool, [4, 7, 9, 11], tasks=4)
    for micro in range(4):
        objective.task(3, micro)
    assert sorted(seen) == [4, 7, 9, 11]


def test_estimated_statistics_are_those_of_the_pictures():
    images = FakePool().batch(0, 16).images
    model = regressor()
    estimated = meta_learning.estimate_statistics(model, [images[:8], images[8:]])
    first = [m for m in estimated.modules() if isinstance(m, torch.nn.BatchNorm2d)][0]
    means = []
    hook = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)][0].register_forward_pre_hook(
        lambda module, x: means.append(x[0].mean((0, 2, 3))))
    model.eval()
    with torch.no_grad():
        model(images)
    hook.remove()
    torch.testing.assert_close(first.running_mean, means[0], rtol=1e-4, atol=1e-6)
    assert not estimated.training


@pytest.mark.parametrize("statistics", ["support", "training"])
def test_queries_are_scored_one_by_one(statistics):
    support, query = FakePool().task(0, 1, 6, 8)
    meta = MetaLearner(regressor(), inner_lr=0.05)
    start = [p.detach().clone() for p in meta.parameters()]
    models = list(meta_learning.adapt(meta, support, 2, statistics))
    for _, model in models:
        with torch.no_grad():
            torch.testing.assert_close(model(query.images)[3:4], model(query.images[3:4]), rtol=1e-4, atol=1e-5)
    assert len(models) == 3
    assert all(torch.equal(a, b) for a, b in zip(start, meta.parameters(), strict=True))


def test_adaptation_lowers_the_support_loss_and_step_0_is_the_network_itself():
    support, query = FakePool().task(0, 3, 8, 8)
    meta = MetaLearner(regressor(), inner_lr=0.05)
    curve = meta_learning.adaptation_curve(meta, support, query, steps=3)
    assert curve["step"].tolist() == [0, 1, 2, 3]
    assert curve["support_loss"].iloc[-1] < curve["support_loss"].iloc[0]
    frozen = meta_learning.adaptation_curve(meta_learning.with_rate(meta, 0.0), support, query, steps=1)
    assert frozen["rmse"].nunique() == 1
    assert frozen["rmse"].iloc[0] == pytest.approx(curve["rmse"].iloc[0])


def test_rate_is_chosen_by_query_error():
    meta = MetaLearner(regressor(), inner_lr=0.05)
    rate, table = meta_learning.choose_rate(meta, [(3, *FakePool().task(0, 3, 8, 8))], [0.0, 0.02], steps=2)
    assert rate == table.sort_values("rmse")["rate"].iloc[0] and len(table) == 2


def test_arms_adapt_on_the_same_pictures():
    def batch(seed):
        g = torch.Generator().manual_seed(seed)
        facts = [torch.rand(12, generator=g) for _ in range(2)]
        type = torch.arange(12) % 2 + 1
        return Batch(torch.rand(12, 3, 32, 32, generator=g), *facts, type, type, facts[0], type)

    support, query = batch(0), batch(1)
    [(kind, few, rest)] = meta_learning.episodes(support, query, [2], 3, seed=5)
    assert kind == 2 and len(few) == 3 and few.type.eq(2).all() and rest.type.eq(2).all()
    assert torch.equal(few.images, meta_learning.episodes(support, query, [2], 3, seed=5)[0][1].images)
    meta = MetaLearner(regressor())
    rows = meta_learning.adaptation_experiment({"a": [meta], "b": [meta]}, support, query, [1, 2], [2, 3], 2, at=[0, 2])
    assert len(rows) == 2 * 2 * 2 * 2
    a, b = (rows[rows["arm"] == arm].drop(columns="arm").reset_index(drop=True) for arm in "ab")
    assert a.equals(b)


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(UserError, match="maml, meta-sgd"):
        MetaLearner(regressor(), "reptile")
