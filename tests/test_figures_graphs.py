"""Figures and widget of distortion graphs: drawn from Data alone, for one node and for many."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from gmiqa.figures import graphs
from gmiqa.widgets.graphs import build_graph, graph_builder
from gmiqa_core import network
from gmiqa_core.batch import Batch


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(20)
    values = torch.rand(20, generator=generator)
    images = torch.rand(20, 3, 32, 32, generator=generator)
    return Batch(images, values, values, 10 + rows % 2, 1 + rows % 5, 1 - values, rows // 5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return network.build("tiny")


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_graph_holds_pictures_of_one_type_and_is_drawn_from_its_data(model, batch, n):
    data = build_graph(model, batch, "jpeg", n, seed=1)
    assert data.num_nodes == n and data.edge_attr.shape == (n * n, 8)
    assert torch.equal(data.level, data.level.sort().values) and data.mu.shape == (n,)
    assert torch.equal(data.image, build_graph(model, batch, "jpeg", n, seed=1).image)
    for figure in (graphs.graph(data, "JPEG"), graphs.edges(data, "JPEG")):
        assert len(figure.axes) >= 2
        plt.close(figure)


def test_without_a_kernel_the_widget_is_a_figure(model, batch):
    figure = graph_builder(model, batch, "jpeg", 4)
    assert hasattr(figure, "savefig")
    plt.close(figure)


def test_tables_become_figures():
    layers = pd.DataFrame([dict(network=name, residual=residual, N=n, layer=k, variance=0.1**k)
                           for name in "ab" for residual in (False, True) for n in (4, 16) for k in range(3)])
    history = pd.DataFrame([dict(step=s, part="validation", name=f"{kind}_{n}", value=0.1)
                            for s in (1, 2) for kind in ("type_accuracy", "level_error") for n in (1, 4)])
    cells = {name: pd.DataFrame({"spread": [0.1, 0.2], "sigma": [0.2, 0.1]}) for name in ("kl", "mse")}
    gains = pd.DataFrame([dict(outcome=name, against=arm, delta=0.01, low=low, high=0.02)
                          for name in ("type", "level", "score")
                          for arm, low in (("none (A = I)", -0.01), ("shuffled", float("nan")))])
    for figure in (graphs.smoothing(layers), graphs.separation(history, [1, 4], 0.04, 0.2), graphs.spreads(cells),
                   graphs.controls(gains)):
        assert figure.axes
        plt.close(figure)
