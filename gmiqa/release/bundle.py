"""The model that users score with: one network, trained on all that it is asked, calibrated, measured, written.

Then later stages of its own learn the scores once more (opinion.py). The scale of sigma is fitted on the validation
part of the data set, which the network did not learn from; the temperature of type probabilities, on contents left out
of training. The test part is opened once, for the metrics. After that, the same recipe on all pictures makes the file
that is shipped, with the calibration of the model that was measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa import recipes
from gmiqa.base_networks import digest
from gmiqa.data import datasets
from gmiqa.data.pictures import Pictures
from gmiqa.data.synthetic import Reference
from gmiqa.data.synthetic.pristine import at_least
from gmiqa.release import behaviour, calibrate, opinion, versions
from gmiqa.release.export import export
from gmiqa.release.judging import Judging, Mixture
from gmiqa.release.tables import tables
from gmiqa_core import checkpoints, training
from gmiqa_core.batch import to_float
from gmiqa_core.efficientnet import SIZES
from gmiqa_core.errors import UserError
from gmiqa_core.finetuning import two_rates
from gmiqa_core.shapes import by_shape

CELLS = 25, 2  # types of a pristine picture's versions, and levels of each
PHOTOGRAPH_CELLS = 4, 1  # of a photograph's: those of the better half have versions, too
HELD = 24  # contents to calibrate with, at most
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Parts:
    """Rows of photographs with human scores to learn from, to calibrate with and to test on; pristine contents to learn
    from and to calibrate with."""

    dataset: datasets.Dataset
    rows: tuple[np.ndarray, np.ndarray, np.ndarray]
    learn: list[Reference]
    held: list[Reference]
    side: int

    @classmethod
    def of(cls, p: Any, everything: bool = False) -> Parts:
        """The parts of these settings; with `everything` all photographs are there to learn from."""
        if p.dataset == "synthetic":
            raise UserError("a model for users needs human scores: dataset=... and its folder, see docs/model_card.md")
        dataset = datasets.from_parameters(p)
        split = datasets.split(dataset, p.split)
        rows = split.train, split.validation, split.test
        if everything:
            rows = np.arange(len(dataset)), rows[1][:0], rows[2][:0]
        pristine = recipes.references(p)
        return cls(dataset, rows, [*pristine.train, *pristine.validation], pristine.test[:HELD], p.max_side)

    def photographs(self, part: int) -> Pictures:
        return Pictures.read(self.dataset, self.rows[part], self.side)


def objective(p: Any, parts: Parts, device: torch.device) -> Judging:
    """What the network learns, with its pictures on `device`."""
    scored = parts.photographs(0)
    scored.pictures = [at_least(picture, p.finetune_crop) for picture in scored.pictures]
    good = scored.quality >= scored.quality.median()
    better = [scored.pictures[int(i)] for i in torch.nonzero(good).flatten()]
    contents: list[Tensor] = [content.image for content in parts.learn] + better
    counts = [CELLS] * len(parts.learn) + [PHOTOGRAPH_CELLS] * len(better)
    made = versions.make(contents, counts, p.finetune_crop, p.seed, device)
    return Judging(scored.on(device), made, good.float().to(device), p.finetune_crop, p.seed,
                   Mixture(scored=p.finetune_batch))


def train(p: Any, model: Any, goal: Judging, folder: Path, label: str = "judging") -> Any:
    """Train a network on `goal`, in place; a training that was stopped continues in `folder`."""
    groups = two_rates(model, p.finetune_lr_backbone, p.finetune_lr_head)
    steps = recipes.finetune_steps(p, len(goal.photographs))
    training.train(model, goal, steps=steps, lr=p.finetune_lr_head, parameter_groups=groups, folder=folder, clip=5.0,
                   weight_decay=p.finetune_decay, ema=p.finetune_ema or None, seed=p.seed, precision=p.precision,
                   log_every=max(1, steps // 40), label=label,
                   identity={"side": goal.side, "photographs": digest(goal.photographs), "mixture": str(goal.mixture),
                             "versions": goal.versions.digest, "backbone": p.finetune_lr_backbone})
    return model.eval()


def release(p: Any, folder: Path, output: Path, target: str = "", device: str | torch.device = "cpu",
            everything: bool = False) -> dict[str, pd.DataFrame]:
    """Train, calibrate and write output/model.onnx, and the checkpoint that it was made from in `folder`; return its
    tables, which are empty with `everything`: then all pictures are learned from, and the calibration is that of the
    earlier run in `folder`."""
    device = torch.device(device)
    known = folder / CALIBRATION
    if everything and not known.is_file():
        raise UserError(f"{folder} holds no {CALIBRATION}: run the same command without --everything first")
    parts = Parts.of(p, everything)
    name = "everything" if everything else "judging"
    model = train(p, recipes.new_network(p, p.seed, device), objective(p, parts, device), folder / name, name)
    if model.config["backbone"] in SIZES:
        model = opinion.given(model, parts.photographs(0), p.imagenet, folder / f"{name}_opinion", p.seed, p.precision)
    made: dict[str, pd.DataFrame] = {}
    if everything:
        facts = json.loads(known.read_text())
    else:
        facts, made = measured(p, model, parts)
        facts |= {"target": f"mean opinion of {target or parts.dataset.title}'s viewers", "max_side": p.max_side}
        folder.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps(facts, indent=1))
    quality = parts.dataset.table["quality"].to_numpy(float)[parts.rows[0]]
    percentiles = [round(float(q), 4) for q in np.percentile(quality, range(101))]
    checkpoint = checkpoints.save(
        model, folder / f"{name}.safetensors", torch.float16, **facts, quality_percentiles=percentiles,
        data={"pictures": len(quality), "contents": len(parts.learn)}, recipe="params/bundled.yaml", seed=p.seed)
    output.mkdir(parents=True, exist_ok=True)
    export(checkpoint, output / "model.onnx")
    return made


def measured(p: Any, model: Any, parts: Parts) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The calibration of a network, and what it is worth: on the test part and on the contents left out."""
    device = next(model.parameters()).device
    validation, test = parts.photographs(1), parts.photographs(2)
    scale = calibrate.sigma_scale(model, validation.pictures, validation.quality.numpy())
    logits: list[Tensor] = []

    def judge(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        said = calibrate.judged(model, images, p.max_side)
        assert said.types is not None
        logits.append(said.types.cpu())
        return 100 * said.mu.cpu().numpy(), said.types.argmax(-1).cpu().numpy()

    def worst(pictures: Tensor) -> list[tuple[int, int]]:
        places = calibrate.judged(model, pictures, p.max_side).places
        assert places is not None
        rows, columns = places.shape[1:]
        found = (divmod(int(k), columns) for k in places.flatten(1).argmax(1))
        return [(int((x + 0.5) * pictures.shape[3] / columns), int((y + 0.5) * pictures.shape[2] / rows))
                for y, x in found]

    seen = behaviour.cells(judge, parts.held, device)
    falls = behaviour.falling(seen)
    heat, types = calibrate.temperature(torch.cat(logits), torch.from_numpy(seen["type"].to_numpy()),
                                        seen["content"].to_numpy())
    hits = behaviour.quadrants(worst, parts.held, device)
    mu, sigma, none = scored(model, test, p.max_side)
    made = {"types": types, "behaviour": pd.DataFrame([{**falls, "map hits": hits["hit"].mean(), "maps": len(hits)}]).T,
            "places": hits.groupby("type")["hit"].mean().rename("hit").reset_index(),
            **tables(parts.dataset.table.iloc[parts.rows[2]], mu, scale * sigma, none)}
    return {"sigma_scale": scale, "temperature": heat}, made


def scored(model: Any, pictures: Pictures, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu, sigma, and whether it is called `none of these`, of each picture."""
    rows = np.zeros((3, len(pictures)))
    for index, stacked in by_shape(pictures.pictures, calibrate.CHUNK):
        said = calibrate.judged(model, to_float(stacked), side)
        assert said.types is not None
        rows[:, index] = torch.stack([said.mu, said.sigma, (said.types.argmax(-1) == 0).float()]).cpu()
    return rows[0], rows[1], rows[2] > 0
