"""The probe of type codes and levels, and the controls that take the edges away."""

import pytest
import torch
from test_pretraining import Toy, everything, tiny

from gmiqa.experiments import graph_controls
from gmiqa.experiments.graph_controls import ALONE, EDGES, MEAN, SUM, _read, changed, controls, gains, graphs_of
from gmiqa.experiments.graph_probe import all_nodes, edge_variance, probe, refit_level_branch, watch
from gmiqa_core import training
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.pretraining import GraphObjective


def test_training_separates_toy_types_and_the_probe_says_so(tmp_path):
    torch.set_num_threads(1)
    model, batch = tiny(), everything()
    objective = GraphObjective(Toy(), sizes=(1, 4), batch=8, classify_weight=1.0, mixed=48)
    training.train(model, objective, steps=40, lr=5e-3, folder=tmp_path, precision="fp32",
                   evaluate=watch(batch, (1, 4), graphs=2), every=40)
    result = probe(model, batch, (1, 4), graphs=4)
    assert set(result.codes) == {1, 4} and result.codes[4].shape == (32, 16)
    assert len(result.nodes) == 32 * 5 and set(result.nodes["N"]) == {1, 4}
    assert result.summary().loc[4, "type_accuracy"] > 0.5  # chance is 0.25


def test_probe_repeats_and_never_names_a_graph_by_its_own_contents():
    model, batch = tiny(), everything()
    first, again = (probe(model, batch, (4,), graphs=3, seed=1) for _ in range(2))
    assert torch.equal(first.codes[4], again.codes[4])
    with pytest.raises(UserError, match="two contents"):
        probe(model, batch[batch.content == 1], (4,))


def test_refit_changes_the_level_branch_alone():
    model, batch = tiny().eval(), everything()
    V = all_nodes(model, batch.images)
    sigma = {}
    for loss in ("kl", "sampled_mse"):
        copy = refit_level_branch(model, V, batch, loss, steps=150, lr=1e-2)
        before = model.state_dict()
        changed = {name for name, value in copy.state_dict().items() if not torch.equal(value, before[name])}
        assert changed and all(name.startswith("level_branch.") for name in changed)
        sigma[loss] = float(copy.level(V[:, None])[1].mean())
    assert sigma["sampled_mse"] < 0.7 * sigma["kl"]


def test_edge_variance_starts_with_the_initial_edges_and_falls():
    V = torch.rand(16, 16)
    shares = edge_variance(tiny(), V, depth=4)
    assert len(shares) == 5 and shares[-1] < shares[0]


@pytest.fixture(scope="module")
def measured():
    model = tiny().eval()
    batch = Batch.cat([everything(24) for _ in range(2)])
    batch.content[:] = torch.arange(len(batch)) % 6
    V = all_nodes(model, batch.images)
    return model, batch, V, controls(model, V, batch, known=(1, 2, 3), n=8, graphs=2)


def test_controls_hold_every_arm_on_every_group(measured):
    _, _, _, table = measured
    units = table.groupby(["outcome", "arm"])["unit"].nunique()
    assert set(units) == {3}, "six contents in groups of two"
    assert set(units["type"].index) == {*EDGES, SUM} and set(units["level"].index) == {*EDGES, ALONE}
    assert set(units["score"].index) >= {EDGES[0], MEAN} and table["value"].notna().all()
    answers = gains(table)
    assert set(answers["n"]) == {3} and not (answers["against"] == EDGES[0]).any()


def test_without_edges_a_code_is_the_mean_of_single_codes(measured):
    """So a linear classifier names what added log-probabilities name, and only one of the two is claimed."""
    model, _, V, table = measured
    members = torch.arange(len(V))[:32].view(4, 8)
    with torch.no_grad():
        mean = model.type_code(V[:, None])[members].mean(1)
        without, trained = (_read(model, V[members], arm, 0)[0] for arm in (EDGES[1], EDGES[0]))
    assert torch.allclose(without, mean, atol=1e-5) and not torch.allclose(trained, mean, atol=1e-5)
    types = table.query("outcome == 'type'").pivot_table(index="unit", columns="arm", values="value")
    assert types[SUM].tolist() == pytest.approx(types[EDGES[1]].tolist())


def test_groups_share_no_content_and_their_graphs_hold_one_type(measured):
    _, batch, _, _ = measured
    table = graphs_of(batch, 8, 2, 2, seed=1)
    contents = {unit: {int(c) for rows in part["members"] for c in batch.content[rows]}
                for unit, part in table.groupby("unit")}
    assert sum(len(c) for c in contents.values()) == len(set().union(*contents.values())) == 6
    assert all(set(batch.type[rows].tolist()) == {t} for t, rows in zip(table["type"], table["members"], strict=True))
    assert all(len(set(rows.tolist())) == 8 for rows in table["members"])
    with pytest.raises(UserError, match="contents in groups of 4"):
        graphs_of(batch, 8, 2, 4, seed=1)


def test_changed_edges_keep_what_they_should():
    E = torch.rand(2, 5, 5, 3)
    E = E + E.transpose(1, 2)
    equal, shuffled = changed(E, "all equal"), changed(E, "shuffled")
    assert torch.equal(changed(E, "as trained"), E) and bool((equal == equal[:, :1, :1]).all())
    torch.testing.assert_close(equal.mean((1, 2)), E.mean((1, 2)))
    assert torch.equal(shuffled, shuffled.transpose(1, 2)) and not torch.equal(shuffled, E)
    assert torch.equal(shuffled.flatten(1, 2).sort(1)[0], E.flatten(1, 2).sort(1)[0])


def test_a_linear_branch_without_edges_is_the_mean_of_single_codes(measured):
    """So its controls agree: what the edges of such a network do can only be a weighting."""
    model = tiny(type_layers=1, graph="full").eval()
    _, batch, V, _ = measured
    graph = V[:8]
    E = torch.zeros(8, 8, model.config["edge_widths"][-1])
    torch.testing.assert_close(tiny(type_layers=1, type_adjacency="mean").eval().type_code(graph, E),
                               tiny(type_layers=1, type_adjacency="mean").eval().type_code(graph[:, None]).mean(0))


def test_crops_of_a_content_are_of_one_distortion():
    from gmiqa.data.synthetic import Reference

    picture = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = graph_controls.several_crops([Reference("a", "folder", picture)] * 2, 32, types=[1, 10])
    assert len(batch) == 2 * 2 * 5 * 3 and batch.images.shape[1:] == (3, 32, 32)
    left, centre = batch.images[:10], batch.images[10:20]
    assert torch.equal(batch.type[:10], batch.type[10:20]) and not torch.equal(left, centre)
