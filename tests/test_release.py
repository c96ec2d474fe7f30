"""The ensemble predicts what its regression predicts; a finished run becomes files that the Scorer takes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa.baselines.svr import FeatureSVR
from gmiqa.data import images, synthetic
from gmiqa.data.distortions import distort
from gmiqa.release import fit_types
from gmiqa.release.bundle import Sizes, fit_with_severity, release
from gmiqa.score import Scorer
from gmiqa.score.ensemble import FeatureEnsemble
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError


@pytest.fixture(scope="module")
def pictures():
    """Twelve contents, each at three qualities: uint8 pictures, scores in [0,1], groups."""
    made, scores, groups = [], [], []
    for k, content in enumerate(synthetic.references("embedded", limit=12)):
        x = images.to_float(images.limit(content.image, 96))[None]
        for level in (1, 3, 5):
            made.append((distort(x, "gaussian_blur", level)[0] * 255).round().to(torch.uint8))
            scores.append(1 - level / 6 + 0.01 * k)
            groups.append(f"g{k}")
    return made, np.array(scores), groups


@pytest.fixture(scope="module")
def fitted(pictures):
    return FeatureSVR("extended_dct", C=1.0, gamma=0.3, max_side=96).fit(*pictures[:2])


def test_the_ensemble_equals_the_regression_it_was_made_from(pictures, fitted, tmp_path):
    made, scores, _ = pictures
    expected = np.asarray(fitted.predict(made))
    ensemble = FeatureEnsemble.fit(fitted, np.zeros(len(made)), expected, scores)
    predicted = torch.cat([ensemble.regress(images.to_float(picture)[None]) for picture in made]).numpy()
    np.testing.assert_allclose(predicted, expected, atol=1e-3)
    ensemble.save(tmp_path / "opinion.safetensors")
    again = FeatureEnsemble.load(tmp_path / "opinion.safetensors")
    stacked = torch.cat([again.combine(torch.zeros(1), images.to_float(picture)[None]) for picture in made]).numpy()
    w = ensemble.tensors["weights"].numpy()
    np.testing.assert_allclose(stacked, w[0] + w[2] * expected, atol=5e-3)


def test_a_foreign_file_is_no_ensemble(tmp_path):
    path = tmp_path / "opinion.safetensors"
    path.write_bytes(b"not one")
    with pytest.raises(UserError, match="opinion.safetensors"):
        FeatureEnsemble.load(path)


def test_a_finished_run_becomes_files_that_the_scorer_takes(pictures, tmp_path):
    made, scores, groups = pictures
    folder = tmp_path / "set"
    folder.mkdir()
    names = [f"p{k:02}.png" for k in range(len(made))]
    for name, picture in zip(names, made, strict=True):
        images.write(picture, folder / name)
    pd.DataFrame({"image": names, "score": scores, "group": groups}).to_csv(folder / "scores.csv", index=False)
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    for k, content in enumerate(synthetic.references("embedded", limit=10)):
        images.write(images.limit(content.image, 96), pristine / f"c{k}.png")
    stage = tmp_path / "run" / "40_fine_tuning"
    stage.mkdir(parents=True)
    given = {"data": str(pristine), "dataset": "folder", "dataset_path": str(folder), "csv": str(folder / "scores.csv"),
             "csv_group": "group", "max_side": 64, "split": "0"}
    (stage / "run.json").write_text(json.dumps({"parameters": {k: {"value": v} for k, v in given.items()}}))
    torch.manual_seed(0)
    checkpoints.save(network.build("tiny", statistics=True), stage / "finetuned.safetensors")
    tables = release(tmp_path / "run", tmp_path / "out", sizes=Sizes(regression=300, types=60, local_quality=2))
    assert set(tables["metrics"]["method"]) == {"released stack", "network alone", "regression alone"}
    assert tables["sigma"]["n"].sum() == len(tables["predictions"]) and len(tables["types"]) == 2
    assert tables["unnamed"]["n"].sum() == len(tables["predictions"])
    assert tables["unnamed"]["called none of these"].between(0, 1).all()
    scorer = Scorer(tmp_path / "out" / "model.safetensors", "cpu")
    score = scorer.score(folder / names[0])
    assert 0 <= score.quality <= 100 and score.sigma > 0 and np.isfinite(score.percentile)
    assert scorer.quality_map(folder / names[0]).values.shape == scorer.quality_map(made[0]).values.shape


def test_training_the_type_branch_again_leaves_scores_as_they_are(tmp_path):
    torch.manual_seed(0)
    model = network.build("tiny", statistics=True, type_layers=1).eval()
    contents = synthetic.references("embedded", limit=10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = next(synthetic.test_batches(contents[:1], types=range(26), levels=[4], crop=128))
    misses = [torch.nn.functional.cross_entropy(model.classify(model.nodes(x.images)), x.type).item()]
    fit_types.refit(model, contents, [contents[0].image], 128, seed=0, count=150, folder=tmp_path)
    misses += [torch.nn.functional.cross_entropy(model.classify(model.nodes(x.images)), x.type).item()]
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"type_branch", "classifier", "level_branch"} and misses[1] < misses[0], (moved, misses)


def test_a_regression_learns_from_distorted_pictures_that_they_are_worse(pictures):
    made, scores, _ = pictures  # blurred ones: noise is nothing that their scores say anything about
    contents = synthetic.references("embedded", limit=6)
    svr = FeatureSVR("extended_dct", C=3.0, gamma=0.3, max_side=512)
    fit_with_severity(svr, made, scores, contents[:4], seed=0, count=240)
    clean, noisy = (torch.stack([next(synthetic.test_batches([c], types=kind, levels=[5])).images[0, :, :256, :256]
                                 for c in contents[4:]]) for kind in ([0], ["white_noise"]))
    assert np.mean(svr.predict(list(noisy))) < np.mean(svr.predict(list(clean))) - 0.1


def test_a_run_without_fine_tuning_is_refused(tmp_path):
    with pytest.raises(UserError, match="40_fine_tuning"):
        release(tmp_path, tmp_path)
