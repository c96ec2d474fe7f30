"""Network: scores independent of batch mates, no dead parameters, presets, files."""

import json

import pytest
import torch

from gmiqa.experiments import cost
from gmiqa_core import checkpoints, network, presets
from gmiqa_core.errors import UserError


def tiny(seed=0, **overrides):
    torch.manual_seed(seed)
    return network.build("tiny", **overrides)


def images(n=4, h=48, w=40, seed=0):
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("option", [{}, dict(finetune_graph="bank"), dict(graph="none"), dict(graph="mlp"),
                                    dict(edge_init="pooled"), dict(edge_residual=True)])
def test_a_score_does_not_depend_on_batch_mates(option):
    model = tiny(**option).double().eval()
    if option.get("finetune_graph") == "bank":
        model.fill_bank(images(3, seed=1).double())
    x = images().double()
    mu, sigma = model(x)
    assert mu.shape == sigma.shape == (4,) and bool((mu > 0).all() and (mu < 1).all() and (sigma > 0).all())
    for i in range(4):
        alone = model(x[i : i + 1])
        torch.testing.assert_close(alone[0][0], mu[i])
        torch.testing.assert_close(alone[1][0], sigma[i])


def test_batch_graph_lets_pictures_compare_and_bank_uses_its_bank():
    x = images().double()
    batch = tiny(finetune_graph="batch").double().eval()
    assert not torch.allclose(batch(x)[0][:2], batch(x[:2])[0], rtol=0, atol=1e-9)
    bank = tiny(finetune_graph="bank").double().eval()
    with pytest.raises(UserError, match="fill_bank"):
        bank(x)
    bank.fill_bank(images(3, seed=1).double())
    before = bank(x)[0]
    bank.fill_bank(images(3, seed=2).double() ** 4)
    assert not torch.allclose(before, bank(x)[0], rtol=0, atol=1e-9)


def test_permuting_a_graph_permutes_its_output():
    model = tiny().double().eval()
    V, order = model.nodes(images(5).double()), torch.tensor([4, 0, 3, 1, 2])
    torch.testing.assert_close(model.type_code(V[order]), model.type_code(V))
    for ours, theirs in zip(model.level(V[order]), model.level(V), strict=True):
        torch.testing.assert_close(ours, theirs[order])
    torch.testing.assert_close(model.edges(V[order]), model.edges(V)[order][:, order])


def test_graphs_in_one_call_equal_graphs_one_by_one():
    model = tiny().double().eval()
    V = torch.stack([model.nodes(images(5, seed=s).double()) for s in (0, 1, 2)])
    torch.testing.assert_close(model.type_code(V), torch.stack([model.type_code(v) for v in V]))
    torch.testing.assert_close(model.level(V)[0], torch.stack([model.level(v)[0] for v in V]))
    torch.testing.assert_close(model.level(V, model.edges(V))[0], model.level(V)[0])


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("zero", [False, True])
def test_no_nan_and_no_dead_code(n, zero):
    model = tiny().eval()
    V = torch.zeros(n, 16) if zero else torch.rand(n, 16)
    for layer in model.relation.layers:
        torch.nn.init.constant_(layer.bias, -1.0)
    torch.nn.init.constant_(model.type_branch.gcn.bias, 0.1)
    out = [model.edges(V), model.type_code(V), *model.level(V), *model.score(V), model.classify(V)]
    assert all(torch.isfinite(x).all() for x in out)
    assert model.type_code(V).any()


@pytest.mark.parametrize("option", [{}, dict(graph="mlp"), dict(graph="none"), dict(self_calibrated=False),
                                    dict(edge_init="pooled"), dict(stem="imagenet", bottleneck=True),
                                    presets.BEFORE])
def test_gradients_reach_every_parameter(option):
    model = tiny(**option)
    V = model.nodes(images(6, 64, 64))
    loss = model.type_code(V).square().sum() + model.classify(V).square().sum()
    loss = loss + sum(x.sum() for x in (*model.level(V), *model.score(V)))
    loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("branch", ["type", "level", "score"])
def test_only_the_asked_branches_exist(branch):
    names = {name.split(".")[0] for name, _ in tiny(branches=(branch,)).named_parameters()}
    heads = {"type": {"type_branch", "classifier"}, "level": {"level_branch"}, "score": {"score_head"}}[branch]
    assert names == {"backbone", "pyramid", "node_builder", "relation"} | heads


def test_eval_is_deterministic_and_small_or_odd_inputs_pass():
    model = tiny().eval()
    x = images()
    assert all(torch.equal(a, b) for a, b in zip(model(x), model(x), strict=True))
    for size in ((32, 32), (33, 79), (200, 32)):
        assert model.nodes(images(1, *size)).shape == (1, 16)
    with pytest.raises(UserError, match="32 px"):
        model(images(1, 31, 64))


def test_frozen_backbone_stays_as_it_is():
    model = tiny()
    model.freeze_backbone()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.train()
    model(images())[0].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    assert all(p.grad is None for p in model.backbone.parameters())
    assert any(p.grad is not None for p in model.node_builder.parameters())


def test_bf16_edges_are_computed_in_full_precision():
    model = tiny().eval()
    x = images()
    with torch.autocast("cpu", torch.bfloat16):
        V = model.nodes(x)
        E, level = model.edges(V), model.level(V)[0]
    assert V.dtype == E.dtype == level.dtype == torch.float32
    torch.testing.assert_close(E, model.edges(V))


def test_edge_depth_cuts_or_repeats_the_widths():
    widths = presets.PRESETS["tiny"]["edge_widths"]
    for depth in (1, 2, 3, 5):
        model = tiny(edge_depth=depth)
        assert len(model.relation.layers) == depth
        assert model.config["edge_widths"][-1] == widths[-1]


def test_config_rebuilds_the_model():
    model = tiny(edge_depth=2, finetune_graph="bank")
    again = network.build(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


def test_a_config_of_before_is_what_it_was():
    """A checkpoint that says nothing of the newer options was trained without them."""
    old = {name: value for name, value in presets.PRESETS["tiny"].items() if name not in presets.BEFORE}
    model = network.GMIQA(**old)
    assert {name: model.config[name] for name in presets.BEFORE} == presets.BEFORE
    assert {name for name, _ in model.type_branch.named_parameters()} == {"gcn.bias", "gcn.lin.weight"}
    assert {name.split(".")[0] for name, _ in model.level_branch.named_parameters()} == {"layers"}


@pytest.mark.parametrize("wrong, named", [(dict(widht=3), "width"), (dict(graph="some"), "full"),
                                          (dict(finetune_graph="bag"), "bank"), (dict(branches=("tipe",)), "type")])
def test_a_wrong_option_is_refused_with_what_there_is(wrong, named):
    with pytest.raises(UserError, match=named):
        tiny(**wrong)
    with pytest.raises(UserError, match="quick"):
        network.build("quik")


def test_saved_model_comes_back_with_its_meta(tmp_path):
    model = tiny(finetune_graph="bank").eval()
    model.fill_bank(images(3, seed=1))
    path = checkpoints.save(model, tmp_path / "runs" / "model.safetensors", stage="graph", srocc=0.5)
    again, meta = checkpoints.load(path)
    assert meta == {"stage": "graph", "srocc": 0.5} and again.start == model.start and not again.training
    assert all(torch.equal(a, b) for a, b in zip(model(images()), again(images()), strict=True))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    half = checkpoints.save(model, tmp_path / "half.safetensors", dtype=torch.float16)
    assert half.stat().st_size < 0.62 * path.stat().st_size
    torch.testing.assert_close(checkpoints.load(half)[0](images())[0], model(images())[0], rtol=0.02, atol=0.01)


def test_foreign_files_are_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    foreign, broken = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    broken.write_bytes(b"not a checkpoint")
    for path in (foreign, broken, tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(UserError, match=path.name):
            checkpoints.load(path)


def test_quality_regressor_shares_the_model_s_modules():
    model = tiny()
    regressor = network.QualityRegressor(model)
    assert regressor(images()).shape == (4,)
    parameters = {id(p) for p in model.parameters()}
    assert [name for name, p in regressor.named_parameters() if id(p) not in parameters] == ["head.weight", "head.bias"]
    regressor.double()
    assert regressor(images().double()).dtype == torch.float64


def test_cost_counts_every_parameter_once_and_flops_grow_with_the_pictures():
    model = tiny()
    one, four = cost.by_module(model, 64, 1, repeats=1), cost.by_module(model, 64, 4, repeats=1)
    assert one.loc["total", "parameters"] == sum(p.numel() for p in model.parameters())
    assert four.loc["backbone", "gflop"] == pytest.approx(4 * one.loc["backbone", "gflop"])
    assert four.loc["edge_builder", "gflop"] > 4 * one.loc["edge_builder", "gflop"], "pairs, not pictures"
    training = cost.by_module(model, 64, 1, training=True, repeats=1)
    assert training.loc["backbone", "gflop"] > 2.5 * one.loc["backbone", "gflop"]
    assert (four["ms"] > 0).all()


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    from gmiqa_core import files
    path = checkpoints.write(tmp_path / "new" / "a.safetensors", {"x": torch.ones(2)}, what="one")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(path, {"x": torch.zeros(2)}, what="two")
    tensors, header = checkpoints.read(path, "file")
    assert torch.equal(tensors["x"], torch.ones(2)) and header == {"what": "one"}
