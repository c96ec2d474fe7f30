"""Distortion graph: the factorised edge GCN is the dense one; symmetry, zero edges, growth."""

import pytest
import torch

from gmiqa.experiments.graph_probe import distortion_graph
from gmiqa_core.graph import Attention, EdgeBuilder, TypeBranch, initial_edges, pairs, type_adjacency


def nodes(*shape, seed=0, sign=False):
    V = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return V if sign else V.relu()


def both(inputs=12, widths=(10, 8, 6), residual=False):
    torch.manual_seed(0)
    factorised = EdgeBuilder(inputs, widths, residual).double()
    dense = EdgeBuilder(inputs, widths, residual, dense=True).double()
    dense.load_state_dict(factorised.state_dict())
    for layer in (*factorised.layers, *dense.layers):
        torch.nn.init.constant_(layer.bias, 0.1)
    return factorised, dense


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("shape", [(1, 12), (2, 12), (7, 12), (3, 5, 12), (2, 3, 4, 12)])
def test_factorised_equals_dense(shape, sign, residual):
    factorised, dense = both(residual=residual)
    V = nodes(*shape, sign=sign).requires_grad_()
    ours, theirs = factorised(V), dense(V)
    assert (ours - theirs).abs().max() < 1e-9 * max(1.0, float(theirs.detach().abs().max()))
    by_ours, by_theirs = (torch.autograd.grad(E.square().sum(), V)[0] for E in (ours, theirs))
    assert (by_ours - by_theirs).abs().max() < 1e-9 * max(1.0, float(by_theirs.abs().max()))


def test_dense_form_is_torch_geometric_s_layer_on_the_written_adjacency():
    from torch_geometric.nn import DenseGCNConv

    factorised, _ = both(widths=(6,))
    V = nodes(5, 12)
    i, j = (k.flatten() for k in torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    X = initial_edges(V, i, j)
    rows = torch.nn.functional.normalize(X, dim=-1)
    layer = DenseGCNConv(12, 6).double()
    layer.load_state_dict(factorised.layers[0].state_dict())
    expected = layer(X, rows @ rows.T + torch.eye(25, dtype=torch.float64), add_loop=False)
    torch.testing.assert_close(factorised(V).reshape(25, 6), expected[0], rtol=0, atol=1e-9)


def test_memory_of_the_factorised_form_grows_with_n_squared():
    """No tensor that autograd keeps has more than a few N^2 rows' worth of numbers."""
    largest = []
    factorised, _ = both()
    for n in (8, 16):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            factorised(nodes(n, 12).requires_grad_())
        largest.append(max(sizes))
    assert largest[1] <= 4.5 * largest[0]


def test_edges_are_symmetric_and_pairs_cover_them():
    E = both()[0](nodes(6, 12))
    torch.testing.assert_close(E, E.transpose(0, 1))
    i, j, table = pairs(4, torch.device("cpu"))
    assert len(i) == 10 and bool((i <= j).all())
    assert all({int(i[table[a, b]]), int(j[table[a, b]])} == {a, b} for a in range(4) for b in range(4))


def test_permuting_a_graph_permutes_its_edges():
    builder, order = both()[0], torch.tensor([3, 1, 4, 0, 2])
    V = nodes(5, 12)
    torch.testing.assert_close(builder(V[order]), builder(V)[order][:, order])


def test_sum_of_an_initial_edge_is_the_cosine():
    V = nodes(4, 12)
    cosine = torch.nn.functional.cosine_similarity(V[:, None], V[None], dim=-1)
    i, j, table = pairs(4, V.device)
    torch.testing.assert_close(initial_edges(V, i, j).sum(-1)[table], cosine)


@pytest.mark.parametrize("V", [torch.zeros(4, 12), -torch.ones(4, 12), torch.eye(4, 12)])
def test_zero_and_negative_edges_give_numbers_and_gradients(V):
    V = V.double().requires_grad_()
    E = both()[0](V)
    torch.manual_seed(0)
    code = TypeBranch(12, 5).double()(V, type_adjacency(E - 10))
    assert torch.isfinite(E).all() and torch.isfinite(code).all()
    gradient = torch.autograd.grad(E.square().sum() + code.sum(), V)[0]
    assert torch.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize("kind", ["mean", "contrast"])
def test_type_adjacency_has_degrees_of_at_least_one(kind):
    E = torch.randn(3, 5, 5, 8)
    A = type_adjacency(E + E.transpose(1, 2), kind)
    assert bool((A.sum(-1) >= 1).all()) and torch.equal(A, A.transpose(1, 2))


def test_contrast_sees_small_differences_and_leaves_a_node_half_its_weight():
    E = 1 + 1e-3 * torch.randn(2, 6, 6, 4, dtype=torch.float64)
    off = ~torch.eye(6, dtype=torch.bool)
    A = type_adjacency(E, "contrast")
    assert bool((A.diagonal(dim1=1, dim2=2) == 1).all()) and bool(((A.sum(-1) - 1) < 1).all())
    assert float((A[:, off].std(1) / A[:, off].mean(1)).min()) > 0.2
    assert bool((type_adjacency(torch.ones(1, 6, 6, 4), "contrast")[:, off] == 0.1).all()), "equal edges, equal entries"


def test_attention_depends_on_the_others_but_not_on_their_order():
    torch.manual_seed(0)
    attention, V = Attention(12, 8).double(), nodes(5, 12)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(attention(V[order]), attention(V)[order])
    torch.testing.assert_close(attention(torch.stack([V, V]))[1], attention(V))
    assert not torch.allclose(attention(V)[:2], attention(V[:2]))


def test_residual_keeps_more_of_an_edge_s_own():
    """The plain layers pull the edges of a graph together; the residual ones less so."""
    V = nodes(24, 12)
    spread = []
    for residual in (False, True):
        E = both(residual=residual)[0](V).detach().reshape(-1, 6)
        spread.append(float((E - E.mean(0)).square().sum() / E.square().sum()))
    assert spread[0] < 0.5 * spread[1]


def test_distortion_graph_is_data_to_look_at():
    V = nodes(3, 12)
    graph = distortion_graph(V, both()[0](V), level=torch.tensor([1, 2, 5]))
    graph.validate()
    assert graph.num_nodes == 3 and graph.num_edges == 9 and graph.edge_attr.shape == (9, 6)
    torch.testing.assert_close(graph.edge_cosine.view(3, 3).diagonal(), torch.ones(3, dtype=torch.float64))
