"""Ablations: every row is an overlay file of params/ablations; equal compute, several seeds, the same pictures.

Equal compute: every row pushes the same number of pixels through forward and backward passes, whatever share its
stages take, so that a row without pre-training fine-tunes longer. Seconds are reported beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.data.synthetic.shown import in_turn
from gmiqa.evaluate.comparison import compare, repeated
from gmiqa.settings import Settings, load
from gmiqa_core.errors import UserError, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "params" / "ablations"
STAGES = ("meta", "graph", "finetune")


@dataclass(frozen=True)
class Row:
    """One row: name, overlay params/ablations/<file>.yaml, title, part of the table, and the row it is held against."""

    name: str
    file: str
    title: str
    part: str
    against: str


ROWS = (
    Row("BL", "bl", "BL: plain ResNet on crops", "in order", ""),
    Row("DGR", "bl_dgr", "+ DGR: graph pre-training", "in order", "BL"),
    Row("SC", "bl_dgr_sc", "+ SC: self-calibrated blocks", "in order", "DGR"),
    Row("Meta", "bl_dgr_sc_meta", "+ Meta: meta pre-training", "in order", "SC"),
    Row("full", "full", "+ SPP: whole pictures (full)", "in order", "Meta"),
    Row("no_DGR", "no_dgr", "full without DGR", "left out", "full"),
    Row("no_SC", "no_sc", "full without SC", "left out", "full"),
    Row("no_Meta", "no_meta", "full without Meta", "left out", "full"),
    Row("V_only", "v_only", "V only, no graph", "graph", "full"),
    Row("V_MLP", "v_mlp", "V + MLP of equal size", "graph", "full"),
    Row("depth_1", "edge_depth_1", "edge GCN of 1 layer", "graph", "full"),
    Row("depth_5", "edge_depth_5", "edge GCN of 5 layers", "graph", "full"),
)  # fmt: skip


def rows(names: Iterable[str] = ()) -> list[Row]:
    """The rows of these names in the order of the table; without names all of them."""
    known = {row.name: row for row in ROWS}
    wanted = set(names) or set(known)
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"ablation_rows: there is no row '{name}'{hint}; the rows are {', '.join(known)}")
    return [row for row in ROWS if row.name in wanted]


def overlay(row: Row) -> Settings:
    """The parameters that the row's file sets, over the defaults."""
    return load(FOLDER / f"{row.file}.yaml")


def switches(p: Any) -> dict[str, Any]:
    """Settings -> options for network.build: what differs from the preset."""
    options: dict[str, Any] = {}
    if not p.self_calibrated:
        options["self_calibrated"] = False
    if p.pyramid:
        options["pyramid"] = tuple(p.pyramid)
    if p.graph != "full":
        options["graph"] = p.graph
    if p.edge_depth:
        options["edge_depth"] = p.edge_depth
    return options


@dataclass
class Bench:
    """What all rows share: the pictures to train on, as crops and whole, the pictures to test on, and the budget.

    crops, whole    synthetic.Pool
    test            uint8 pictures (3,h,w); target (n,) quality; content (n,) their content
    steps, batch    every row may push steps * batch crops, in pixels, through the network
    """

    crops: Any
    whole: Any
    area: float
    test: list[Any]
    target: np.ndarray
    content: np.ndarray
    steps: int
    batch: int
    crop: int
    lr: float
    preset: str
    finetune_graph: str = "singleton"
    device: Any = "cpu"


class Draws:
    """A pool seen from `by` steps on: every seed of a row draws other pictures, the same ones in every row."""

    def __init__(self, pool: Any, by: int):
        self.pool, self.by = pool, by

    def batch(self, step: int, n: int) -> Any:
        return self.pool.batch(step + self.by, n)

    def triplet(self, step: int, n: int) -> Any:
        return self.pool.triplet(step + self.by, n)

    def task(self, step: int, type: int, support: int, query: int) -> Any:
        return self.pool.task(step + self.by, type, support, query)


def bench(training: Sequence[Any], test: Sequence[Any], p: Any, seed: int = 0, device: Any = "cpu") -> Bench:
    """Pools on the training contents, and one picture per test content and type, levels in turn (n = contents x 25)."""
    from gmiqa.data.synthetic import Pool

    whole = (round(p.ablation_whole * 0.75), p.ablation_whole)
    options: dict[str, Any] = {"whole": whole, "per_cell": 2, "reuse": None, "seed": seed, "background": False}
    shown = in_turn(test, whole=whole, seed=seed)
    crops, wholes = (Pool(training, crop=crop, **options) for crop in (p.ablation_crop, None))
    facts = shown.facts
    return Bench(crops, wholes, whole[0] * whole[1], shown.pictures, facts["target"].to_numpy(),
                 facts["content"].to_numpy(), p.ablation_steps, p.ablation_batch, p.ablation_crop, p.ablation_lr,
                 p.preset, p.finetune_graph, device)  # fmt: skip


def plan(settings: Mapping[str, Any], bench: Bench) -> pd.DataFrame:
    """Stages of a row -> index stage; pictures (a step), steps, pixels (in all). They share the budget equally."""
    stages = [s for s in STAGES if s == "finetune" or settings[f"{s}_steps"] > 0]
    whole = settings["finetune_crop"] == 0
    share = bench.steps * bench.batch * bench.crop**2 / len(stages)
    table = {}
    for stage in stages:
        area = bench.area if stage == "finetune" and whole else bench.crop**2
        pictures = bench.batch
        if stage == "finetune" and whole:
            pictures = max(2, round(bench.batch * bench.crop**2 / area))
        if stage == "graph":
            pictures = 3 * max(2, bench.batch // 3)
        steps = max(1, round(share / (pictures * area)))
        table[stage] = {"pictures": pictures, "steps": steps, "pixels": steps * pictures * area}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("stage")


def train(row: Row, bench: Bench, seed: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """One row, one seed: build, its pre-trainings, fine-tuning -> model, and what it cost."""
    import torch

    from gmiqa_core import finetuning, network, pretraining

    settings, began = overlay(row), time.monotonic()
    torch.manual_seed(seed)
    model = network.build(bench.preset, **switches(settings), finetune_graph=bench.finetune_graph).to(bench.device)
    todo = plan(settings, bench)
    crops, whole = (Draws(pool, 10_000 * seed) for pool in (bench.crops, bench.whole))
    quiet: dict[str, Any] = {"report": lambda *_: None, "seed": seed, "checkpoint_every": 10**9, "clip": 1.0}
    if "meta" in todo.index:
        _meta(model, crops, bench, todo.loc["meta"], folder / "meta", quiet)
    if "graph" in todo.index:
        batch = int(todo.pictures["graph"]) // 3
        goal = pretraining.graph_objective(crops, sizes=(1, batch), batch=batch, seed=seed)
        _loop(model, goal, todo.loc["graph"], folder / "graph", bench.lr, quiet)
    crop = settings.finetune_crop
    model, _ = finetuning.finetune(
        model, crops if crop else whole, steps=int(todo.steps["finetune"]), folder=folder / "finetune",
        batch=int(todo.pictures["finetune"]), lr_backbone=bench.lr, lr_head=bench.lr, resume="never", **quiet,
    )  # fmt: skip
    return model, {"row": row.name, "seed": seed, "pixels": int(todo.pixels.sum()), "seconds": time.monotonic() - began,
                   "parameters": sum(p.numel() for p in model.parameters())}  # fmt: skip


def _loop(model: Any, objective: Any, todo: Any, folder: Path, lr: float, quiet: dict[str, Any]) -> None:
    from gmiqa_core import training

    training.train(model, objective, steps=int(todo["steps"]), lr=lr, folder=folder, resume="never", **quiet)


def _meta(model: Any, crops: Draws, bench: Bench, todo: Any, folder: Path, quiet: dict[str, Any]) -> None:
    """Meta-train backbone, pyramid and NodeBuilder of `model` in place; estimate BatchNorm statistics afterwards."""
    from gmiqa_core import meta_learning
    from gmiqa_core.network import QualityRegressor

    half = max(2, int(todo["pictures"]) // 4)
    learner = meta_learning.MetaLearner(QualityRegressor(model)).to(bench.device)
    goal = meta_learning.MetaObjective(crops, range(1, 26), tasks=2, support=half, query=half, seed=quiet["seed"])
    _loop(learner, goal, todo, folder, bench.lr, {**quiet, "accumulate": 2})
    images = (crops.batch(k, bench.batch).images.to(bench.device) for k in range(4))
    settled = meta_learning.estimate_statistics(learner.model, images)
    for part in ("backbone", "pyramid", "node_builder"):
        getattr(model, part).load_state_dict(getattr(settled, part).state_dict())


def predict(model: Any, row: Row, bench: Bench, seed: int = 0) -> np.ndarray:
    """Quality (n,) of the test pictures: whole ones for rows with SPP, the mean of four random crops for the others."""
    from gmiqa_core import prediction

    crop = overlay(row).finetune_crop
    options: dict[str, Any] = {"crops": 4, "crop": bench.crop, "seed": seed} if crop else {}
    return prediction.predict(model, bench.test, max_side=None, **options)["mu"].to_numpy()


def table(
    predictions: dict[str, np.ndarray], bench: Bench, chosen: Sequence[Row], bootstrap: int, seed: int = 0
) -> pd.DataFrame:
    """Predictions (seeds, n) per row -> SROCC and PLCC with intervals, and the paired outcome against another row."""
    result = []
    for row in chosen:
        line: dict[str, Any] = {"row": row.name, "title": row.title, "part": row.part}
        for metric in ("srocc", "plcc"):
            of = repeated(predictions[row.name], bench.target, metric, bench.content, bootstrap, seed)
            line |= {metric: of["value"], f"{metric}_low": of["low"], f"{metric}_high": of["high"], "n": of["n"]}
        if row.against in predictions:
            pair = (predictions[row.name], predictions[row.against])
            against = compare(*pair, bench.target, "srocc", bench.content, bootstrap, seed)
            line |= {"against": row.against, "delta": against.delta, "delta_low": against.low,
                     "delta_high": against.high, "outcome": against.outcome,
                     "sentence": against.sentence(row.name, row.against)}  # fmt: skip
        result.append(line)
    return pd.DataFrame(result)
