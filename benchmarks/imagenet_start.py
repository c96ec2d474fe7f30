"""What the network starts from, and what pre-training adds to it: GMIQA's preset lite, fine-tuned on human scores.

    python -m benchmarks.imagenet_start params/bundled.yaml -p data=PRISTINE -p dataset_path=BIQ2021 -p csv=... \
        --folds 5 --output outputs/starts.csv

Every start is fine-tuned in the same way on the training part of the data set, less one fold, and tested on whole
pictures of that fold; fold k has seed k. The test part is not opened. A run that was stopped, or ended at --minutes,
takes up the rows in OUTPUT. Pre-training is that of notebooks 20 and 30; `quality` is notebook 80's quality-aware one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmiqa import recipes
from gmiqa.data import datasets
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import metrics, paired
from gmiqa.experiments.folds import fold_rows
from gmiqa.settings import load, parse_overrides
from gmiqa.targets import TargetSet
from gmiqa.torch_engine import device_of
from gmiqa_core.errors import UserError
from gmiqa_core.prediction import predict

# Pre-training at a size that a card does in seconds; the fine-tuning is the release's, shorter and on smaller crops.
SIZES = {"turn_crops": False, "held_out": [], "finetune_loss": "quality_aware", "synthetic_share": 0.0,
         "graph_steps": 200, "graph_crop": 160, "graph_lr": 5e-4, "graph_batch": 16, "pool_reuse": 8,
         "meta_steps": 80, "meta_crop": 96, "meta_lr": 2e-4}


def starts(p: Any, contents: list[Any], device: torch.device, folder: Path) -> dict[str, Callable[[int], Any]]:
    """Name -> seed -> the network before fine-tuning."""

    def new(seed: int, imagenet: str = p.imagenet) -> Any:
        return recipes.new_network(p.replaced(imagenet=imagenet), seed, device)

    def meta(seed: int) -> Any:
        pool = recipes.meta_pool(p, contents, device)
        learner, _ = recipes.meta_pretrain(p, model := new(seed), pool, seed, folder / f"meta{seed}", report=quiet)
        return recipes.take_over(model, learner)

    def graph(seed: int, model: Any) -> Any:
        pool = recipes.graph_pool(p, contents, device)
        return recipes.graph_pretrain(p, model, pool, folder / f"graph{seed}", seed, report=quiet)[0]

    def quality(seed: int) -> Any:
        pool = recipes.graph_pool(p, contents, device)
        return recipes.plain_pretrain(p, new(seed), pool, folder / f"quality{seed}", seed, report=quiet)[0]

    return {"random weights": lambda seed: new(seed, "none"), "ImageNet": new,
            "ImageNet, graphs": lambda seed: graph(seed, new(seed)),
            "ImageNet, meta, graphs": lambda seed: graph(seed + 100, meta(seed)),
            "ImageNet, quality": quality}


def quiet(*_: Any) -> None:
    """No progress of the many small trainings."""


def same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse results of other settings: they cannot be compared with these."""
    file, text = folder / "settings.json", json.dumps(settings, sort_keys=True, default=str)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder} holds results of other settings: give another --output, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="+")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--starts", nargs="+", default=[], help="words in the names of those to run (default: all)")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no training after so many")
    parser.add_argument("--output", type=Path, default=Path("outputs/starts.csv"))
    args = parser.parse_args()
    began = time.monotonic()
    given = {**SIZES, "finetune_epochs": args.epochs, "finetune_crop": args.crop, **parse_overrides(args.p)}
    p = load(*args.params, overrides=given)
    device = device_of(p.device)
    dataset = datasets.from_parameters(p)
    learn = datasets.split(dataset, p.split, validation=0).train
    pictures = Pictures.read(dataset, learn, p.max_side).on(device)
    units = dataset.units()[learn]
    folds = fold_rows(len(learn), args.folds, units)
    folder = args.output.with_suffix("")
    same_settings(folder, {**given, "folds": args.folds, "params": args.params, "pictures": len(pictures)})
    rows = pd.read_csv(args.output).to_dict("records") if args.output.is_file() else []
    done = {(row["start"], row["fold"]) for row in rows}
    for fold, test in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(learn)), test)
        for name, begin in starts(p, recipes.references(p).train, device, folder).items():
            wanted = not args.starts or any(word in name for word in args.starts)
            if (name, fold) in done or not wanted or time.monotonic() - began > 60 * args.minutes:
                continue
            first = time.monotonic()
            model = begin(fold)
            second = time.monotonic()
            target = TargetSet(pictures[rest], None, pictures[test], "", "")
            model, _ = recipes.fine_tune(p, model, target, folder / f"{name} {fold}", fold, report=quiet)
            truth = pictures.quality.cpu().numpy()[test]
            table = metrics(predict(model, [pictures.pictures[i] for i in test]).mu, truth, units[test])["value"]
            rows.append({"start": name, "fold": fold, "srocc": table["srocc"], "plcc": table["plcc"], "n": len(test),
                         "seconds before": second - first, "seconds": time.monotonic() - second})
            args.output.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(args.output, index=False)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    summary(pd.DataFrame(rows))


def summary(table: pd.DataFrame) -> None:
    """Means over folds, and each start against ImageNet's, paired over folds."""
    means = table.groupby("start", sort=False)[["srocc", "plcc", "seconds before", "seconds"]].mean()
    print(means.round(3).to_string())
    wide = table.pivot(index="fold", columns="start", values="srocc")
    for name in wide.columns.drop("ImageNet", errors="ignore"):
        deltas = (wide[name] - wide["ImageNet"]).dropna().to_numpy()
        print(paired(deltas, margin=0.01).sentence(name, "ImageNet"))


if __name__ == "__main__":
    main()
