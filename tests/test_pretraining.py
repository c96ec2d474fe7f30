"""Graph pre-training: the losses' minima, draws that repeat, the paper's variants; gradients reach the edges."""

import numpy as np
import pytest
import torch

from gmiqa_core import network, training
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.graph import type_adjacency
from gmiqa_core.losses import level_loss, triplet_loss
from gmiqa_core.pretraining import GraphObjective


class Toy:
    """A pool whose types are colours: a pure function of (step, n), instant."""

    types = (1, 2, 3, 4)

    def of(self, rng, kind, n):
        level = rng.integers(1, 6, n)
        colour = np.eye(3)[kind % 3] * (0.4 + 0.1 * kind)
        images = colour[None, :, None, None] + 0.08 * level[:, None, None, None] * rng.random((n, 3, 32, 32))
        severity = torch.tensor(level / 5, dtype=torch.float32)
        return Batch(torch.tensor(images, dtype=torch.float32).clamp(0, 1), 1 - severity, torch.full((n,), 0.1),
                     torch.full((n,), kind), torch.tensor(level), severity, torch.tensor(rng.integers(0, 4, n)))

    def batch(self, step, n):
        rng = np.random.default_rng((step, 1))
        return Batch.cat(self.of(rng, int(rng.choice(self.types)), 1) for _ in range(n))

    def triplet(self, step, n):
        rng = np.random.default_rng(step)
        same, other = rng.choice(self.types, 2, replace=False)
        return tuple(self.of(rng, int(kind), n) for kind in (same, same, other))


def everything(n=8):
    rng = np.random.default_rng(0)
    return Batch.cat(Toy().of(rng, kind, n) for kind in Toy.types)


def tiny(**options):
    torch.manual_seed(0)
    return network.build("tiny", **options)


def test_kl_is_least_at_the_true_mean_and_spread():
    target, spread = torch.tensor([0.3]), torch.tensor([0.12])
    assert float(level_loss("kl", target, spread, target, spread)) == pytest.approx(0, abs=1e-6)
    for mu, sigma in ((0.35, 0.12), (0.3, 0.09), (0.3, 0.2)):
        assert float(level_loss("kl", torch.tensor([mu]), torch.tensor([sigma]), target, spread)) > 0.01


def test_kl_equals_torch_s_on_gaussians():
    torch.manual_seed(0)
    mu, sigma, target, spread = torch.rand(4, 20) + 0.05
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(target, spread),
                                                 torch.distributions.Normal(mu, sigma)).mean()
    torch.testing.assert_close(level_loss("kl", mu, sigma, target, spread), expected)


def test_sampled_mse_is_squared_error_plus_variance_and_so_least_at_sigma_zero():
    torch.manual_seed(0)
    mu, target, spread = torch.full((200_000,), 0.4), torch.tensor(0.5), torch.tensor(0.1)
    for sigma in (0.0, 0.1, 0.3):
        value = level_loss("sampled_mse", mu, torch.full_like(mu, sigma), target, spread)
        assert float(value) == pytest.approx(0.01 + sigma**2, rel=0.02)


def test_triplets_beyond_the_margin_are_not_active():
    codes = torch.tensor([[[0.0, 0.0]] * 2, [[0.1, 0.0]] * 2, [[0.3, 0.0], [0.15, 0.0]]])
    loss, values = triplet_loss(codes, 0.1)
    assert float(values["active"]) == 0.5 and float(loss) == pytest.approx(0.025)


def test_a_draw_is_a_pure_function_of_its_step_and_holds_graphs_of_one_type():
    objective = GraphObjective(Toy(), sizes=(1, 4), batch=8, mixed=16, classify_weight=1.0)
    seen = set()
    for step in range(8):
        batch, mixed, n = objective.inputs(step)
        again = objective.inputs(step)
        assert torch.equal(batch.images, again[0].images) and torch.equal(mixed.images, again[1].images)
        assert len(mixed) == 16 and len(mixed.type.unique()) > 2
        seen.add(n)
        roles = batch.type.view(3, -1, n)
        assert roles.shape == (3, 8 // n, n) and bool((roles == roles[..., :1]).all())
        assert torch.equal(roles[0], roles[1]) and not (roles[0] == roles[2]).any()
    assert seen == {1, 4}
    assert not torch.equal(objective.inputs(0)[0].images, objective.inputs(1)[0].images)


def test_micro_batches_of_a_step_are_new_ones():
    objective = GraphObjective(Toy(), sizes=(2,), batch=4, accumulate=2, mixed=48)
    drawn = [objective.inputs(step, micro)[0].images for step in (0, 1) for micro in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("options", [{}, dict(normalise_codes=False),
                                     dict(level_loss="sampled_mse", level_target="raw"),
                                     dict(classify_weight=1.0, quality_weight=1.0),
                                     dict(classify_weight=1.0, quality_weight=1.0, mixed=0)])
@pytest.mark.parametrize("graph", ["full", "none", "mlp"])
def test_loss_is_a_number_with_gradients(options, graph):
    model = tiny(graph=graph)
    loss, values = GraphObjective(Toy(), **{"sizes": (1, 4), "batch": 8, "mixed": 48, **options})(model, 0, 0)
    loss.backward()
    assert torch.isfinite(loss) and 0 <= float(values["active"]) <= 1
    used = ["backbone", "pyramid", "node_builder", "type_branch", "level_branch"]
    used += ["classifier", "score_head"] if "classify_weight" in options else []
    assert all(any(p.grad is not None and p.grad.any() for p in getattr(model, part).parameters()) for part in used)


def test_detached_pairs_leave_the_gradient_to_the_anchor():
    model, x = tiny().eval(), {}
    for detach in (False, True):
        objective = GraphObjective(Toy(), sizes=(4,), batch=4, detach_pairs=detach, margin=10.0, mixed=48)
        batch, mixed, _ = objective.inputs(0)
        assert mixed is None, "no term wants mixed pictures"
        batch.images.requires_grad_()
        x[detach] = torch.autograd.grad(objective.outcome(model, (batch, None, 4))[0], batch.images)[0]
    anchor = slice(0, 4)
    assert x[False][4:].any() and not x[True][4:].any() and x[True][anchor].any()


def test_raw_levels_are_asked_for_on_the_scale_1_to_5():
    model = tiny()
    _, values = GraphObjective(Toy(), sizes=(4,), batch=4, level_target="raw", mixed=48)(model, 0, 0)
    assert float(values["level_error"].detach()) > 0.4  # about 4 times what the same branch misses in [0,1]


def edge_gradient(model, n, objective):
    """Share of the edge builder in the type loss's gradient on what makes codes of nodes; off-diagonal entries of A."""
    batch, _, _ = objective.inputs(0)
    V = model.train().nodes(batch.images).view(3, -1, n, model.config["node_width"])
    E = model.edges(V)
    triplet_loss(model.type_code(V, E), 100.0)[0].backward()
    norm = {name: sum(float(p.grad.square().sum()) for p in getattr(model, name).parameters())
            for name in ("relation", "node_builder", "type_branch")}
    model.zero_grad()
    A = type_adjacency(E.detach(), model.config["type_adjacency"])
    return (norm["relation"] / sum(norm.values())) ** 0.5, A[..., ~torch.eye(n, dtype=torch.bool)]


@pytest.mark.parametrize("preset, n, least", [("quick", 16, 2e-3), ("paper", 16, 5e-4)])
def test_the_type_loss_reaches_the_edge_builder_at_the_start_and_in_training(preset, n, least, tmp_path):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, objective = network.build(preset), GraphObjective(Toy(), sizes=(n,), batch=n, mixed=0)
    for trained in (False, True):
        if trained:
            training.train(model, objective, steps=4, lr=1e-3, folder=tmp_path, precision="fp32", clip=5.0)
        share, entries = edge_gradient(model, n, objective)
        assert share > least
        assert bool((entries > 0).all()) and float((entries.std(-1) / entries.mean(-1)).min()) > 1e-3


@pytest.mark.parametrize("wrong", [dict(level_loss="l1"), dict(level_target="grade"), dict(sizes=())])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(UserError):
        GraphObjective(Toy(), **{"sizes": (1,), "batch": 8, "mixed": 48, **wrong})
