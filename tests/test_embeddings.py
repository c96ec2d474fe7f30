"""Maps repeat and do not depend on the order of rows; the numbers equal scikit-learn's where it has them."""

import subprocess
import sys

import numpy as np
import pytest

from gmiqa.experiments import embeddings as em
from gmiqa_core.errors import UserError

GRID = np.meshgrid(np.arange(1, 6), np.arange(1, 6), np.arange(4), indexing="ij")
TYPES, LEVELS, CONTENTS = (axis.ravel() for axis in GRID)


def planted(spread=0.3, seed=0):
    """100 codes: types lie far apart, levels move along one axis, contents add noise."""
    rng = np.random.default_rng(seed)
    centres, axis = 4 * rng.normal(size=(6, 12)), rng.normal(size=12) / 3
    return centres[TYPES] + LEVELS[:, None] * axis + spread * rng.normal(size=(100, 12))


@pytest.mark.parametrize("method", ["pca", pytest.param("umap", marks=pytest.mark.timeout(600))])
def test_a_map_repeats_and_ignores_the_order_of_rows(method):
    X, ids, order = planted(), np.arange(100), np.random.default_rng(1).permutation(100)
    options = {"method": method, "epochs": 20}
    first = em.project(X, ids, **options)
    assert first.shape == (100, 2) and np.array_equal(first, em.project(X, ids, **options))
    assert np.array_equal(first[order], em.project(X[order], ids[order], **options))


def test_pca_equals_scikit_learns_up_to_sign():
    from sklearn.decomposition import PCA

    X = planted()
    assert np.abs(em.project(X, method="pca")) == pytest.approx(np.abs(PCA(2).fit_transform(X)), abs=1e-4)


def test_constant_codes_lie_on_one_point():
    assert not em.project(np.ones((10, 4))).any()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="umap, pca"):
        em.project(planted(), method="tsne")
    with pytest.raises(UserError, match="finite"):
        em.project(np.full((5, 2), np.nan))
    with pytest.raises(UserError, match="two contents"):
        em.measure(planted(), TYPES, LEVELS, np.zeros(100))


def test_align_undoes_turn_scale_and_shift():
    Y = np.random.default_rng(0).normal(size=(50, 2))
    turned = 3 * Y @ np.array([[0.6, 0.8], [0.8, -0.6]]) + 5
    assert em.align(turned, Y) == pytest.approx(Y, abs=1e-9)


def test_silhouette_and_trustworthiness_equal_scikit_learns():
    from sklearn.manifold import trustworthiness
    from sklearn.metrics import silhouette_samples

    X = planted(2.0)
    every_picture_its_own_content = np.arange(100)
    ours = em.silhouette(em.distances(X), TYPES, every_picture_its_own_content)
    assert ours == pytest.approx(silhouette_samples(X, TYPES), abs=1e-9)
    Y = X[:, :2]
    assert em.trustworthiness(X, Y, 5) == pytest.approx(trustworthiness(X, Y, n_neighbors=5), abs=1e-9)
    assert em.trustworthiness(X, X, 5) == 1


def test_measures_find_what_was_planted_and_only_that():
    good = em.measure(planted(), TYPES, LEVELS, CONTENTS, bootstrap=100)
    assert good.value["neighbour_type"] == 1 and good.value["silhouette"] > 0.6 and good.value["level"] > 0.8
    noise = em.measure(np.random.default_rng(0).normal(size=(100, 12)), TYPES, LEVELS, CONTENTS, bootstrap=100)
    assert noise.low["neighbour_type"] < 0.2 and abs(noise.value["level"]) < 0.3
    assert (good.units == 4).all() and (good.low <= good.value).all()


def test_a_neighbour_of_the_same_content_never_counts():
    """Codes that hold the content alone: the nearest picture of another content is a guess."""
    X = np.eye(4)[CONTENTS] * 10 + np.random.default_rng(0).normal(size=(100, 4)) * 0.01
    assert em.measure(X, TYPES, LEVELS, CONTENTS, bootstrap=50).value["neighbour_type"] < 0.5


def test_codes_of_a_picture_do_not_depend_on_the_others():
    import torch

    from gmiqa_core import network

    torch.manual_seed(0)
    model = network.build("tiny").eval()
    images = torch.rand(5, 3, 48, 40)
    together, alone = em.codes(model, images), em.codes(model, images[2:3])
    assert together["type_code"].shape == (5, model.config["type_width"])
    assert all(together[k][2] == pytest.approx(alone[k][0], abs=1e-5) for k in together)


def test_importing_loads_no_umap():
    code = ("import sys, gmiqa.experiments.embeddings; "
            "sys.exit(any(m in sys.modules for m in ('umap', 'sklearn', 'numba')))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
