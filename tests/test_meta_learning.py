"""The meta-gradient against torch.func, plain and Adam inner steps; BatchNorm left alone."""

from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from gmiqa_core import meta_learning, network, training
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

    def identity(self):
        return {}

    def task(self, step, type, support, query):
        parts = self.batch(1000 * type + 2 * step, support), self.batch(1000 * type + 2 * step + 1, query)
        for part in parts:
            part.quality = part.quality * (0.5 + 0.1 * type)
        return parts


def adam_directions(gradients, moments, step):
    """Adam's directions (Kingma & Ba 2015) for a dict of gradients; `moments` holds the running means."""
    result = {}
    for k, g in gradients.items():
        m, v = moments.get(k, (torch.zeros_like(g), torch.zeros_like(g)))
        moments[k] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        result[k] = m / (1 - 0.9**step) / (v / (1 - 0.999**step) + 1e-16).sqrt()
    return result


def reference_gradient(meta, support, query, inner_steps, first_order, rates):
    """One meta-step by torch.func, written independently of learn2learn."""
    model = meta.model
    start = {k: v.detach().clone() for k, v in model.named_parameters()}

    def loss(weights, batch):
        buffers = {k: v.clone() for k, v in model.named_buffers()}
        out = functional_call(model, ({**weights, **buffers}), (batch.images,))
        return (out - batch.quality).square().mean()

    def outer(weights, rates):
        fast, moments = weights, {}
        for step in range(1, inner_steps + 1):
            inner = torch.func.grad(loss)(fast, support)
            if first_order:
                inner = {k: g.detach() for k, g in inner.items()}
            if meta.inner == "adam":
                inner = adam_directions(inner, moments, step)
            fast = {k: fast[k] - rates[k] * inner[k] for k in fast}
        return loss(fast, query)

    rates = {k: r.detach() for k, r in zip(start, rates, strict=True)}
    return torch.func.grad(outer, argnums=(0, 1))(start, rates)


@pytest.mark.parametrize("algorithm", meta_learning.ALGORITHMS)
@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize(("inner_steps", "inner"), [(1, "sgd"), (2, "sgd"), (2, "adam")])
def test_gradient_of_one_meta_step_equals_torch_func(algorithm, first_order, inner_steps, inner):
    meta = MetaLearner(regressor(torch.float64), algorithm, first_order, 0.05 if inner == "sgd" else 1e-3, inner_steps,
                       inner).train()
    objective = MetaObjective(FakePool(torch.float64), types=[3], support=4, query=4)
    loss, _ = objective(meta, 0, 0)
    loss.backward()
    names = [name for name, _ in meta.model.named_parameters()]
    fixed = [torch.tensor(0.05 if inner == "sgd" else 1e-3, dtype=torch.float64)] * len(names)
    rates = list(meta.learner.lrs) if algorithm == "meta-sgd" else fixed
    weights, rate_gradients = reference_gradient(meta, *objective.inputs(0, 0)[:2], inner_steps, first_order, rates)
    for name, p in meta.model.named_parameters():
        torch.testing.assert_close(p.grad, weights[name], rtol=1e-6, atol=1e-9, msg=name)
    if algorithm == "meta-sgd":
        for name, rate in zip(names, meta.learner.lrs, strict=True):
            torch.testing.assert_close(rate.grad, rate_gradients[name], rtol=1e-6, atol=1e-9, msg=name)


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
    pool = SimpleNamespace(task=lambda step, type, support, query: (seen.append(type), None))
    objective = MetaObjective(pool, [4, 7, 9, 11], tasks=4)
    for micro in range(4):
        objective.inputs(3, micro)
    assert sorted(seen) == [4, 7, 9, 11]


def test_estimated_statistics_are_those_of_the_pictures():
    images = FakePool().batch(0, 16).images
    model = regressor()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 0.01
    estimated = meta_learning.estimate_statistics(model, [images[:8], images[8:]])
    assert {m.momentum for m in estimated.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.01}
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


def test_inner_adam_moves_weights_as_torchs_adam_does():
    support, _ = FakePool(torch.float64).task(0, 2, 6, 2)
    meta = MetaLearner(regressor(torch.float64), inner_lr=1e-3, inner="adam").train()
    plain = regressor(torch.float64).train()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        meta_learning.squared_error(plain, support).backward()
        optimizer.step()
    adapted, _ = meta.inner_loop(support, steps=3)
    pairs = zip(adapted.module.parameters(), plain.parameters(), strict=True)
    apart = torch.cat([(ours - theirs).detach().abs().flatten() for ours, theirs in pairs])
    # Three steps move a weight by 3e-3; a gradient near epsilon, which stands elsewhere in ours, may differ more.
    assert apart.quantile(0.99) < 1e-6 and apart.max() < 1e-3


def test_an_unknown_algorithm_or_inner_update_is_refused():
    with pytest.raises(UserError, match="maml, meta-sgd"):
        MetaLearner(regressor(), "reptile")
    with pytest.raises(UserError, match="sgd, adam"):
        MetaLearner(regressor(), inner="rmsprop")
