"""MetaQAP on a data set with an official split: the stack, its members, their mean; pre-training against none.

    python -m benchmarks.metaqap /data/biq2021 index.csv --work /tmp/metaqap --cache /tmp/features
    python -m benchmarks.metaqap ... --imagenet mobilenet_v2.pth         # MobileNetV2 joins the stack

Members are fitted on folds of the training part that divide no scene group, the stack on their out-of-fold predictions.
The test part is opened once, for the last table. Trained networks stay in the work folder: a killed run continues.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmiqa import baselines
from gmiqa.data import datasets, synthetic
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import compare, metrics, srocc
from gmiqa.experiments.folds import Fitted, Member, out_of_fold
from gmiqa.experiments.metaqap import Recipe, starts
from gmiqa.experiments.stacking import Stack

PLAIN, PRETRAINED = "small, random start", "small, quality-aware pre-training"
IMAGENET, IMAGENET_PRETRAINED = "MobileNetV2, ImageNet start", "MobileNetV2, quality-aware pre-training after it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("csv")
    for name, default in (("image", "file"), ("score", "mos"), *((x, x) for x in ("group", "subset", "split"))):
        parser.add_argument(f"--{name}", default=default, help=f"column (default: {default})")
    parser.add_argument("--low", type=float, default=0.0)
    parser.add_argument("--high", type=float, default=1.0)
    parser.add_argument("--pristine", default="embedded", help="folder of undistorted pictures to pre-train on")
    parser.add_argument("--imagenet", default="", help="weights file of MobileNetV2, see gmiqa.mobilenet")
    parser.add_argument("--imagenet-lr", type=float, default=3e-4)
    parser.add_argument("--side", type=int, default=224, help="longer side of what the networks see")
    parser.add_argument("--crop", type=int, default=144)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200, help="fine-tuning steps of a network")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", default=None, help="folder that keeps the hand-crafted features")
    parser.add_argument("--work", type=Path, default=Path("outputs/metaqap_benchmark"), help="folder of the trainings")
    args = parser.parse_args()
    begin = time.perf_counter()

    columns = {name: getattr(args, name) for name in ("image", "score", "group", "subset", "split")}
    dataset = datasets.load("folder", args.folder, csv=args.csv, low=args.low, high=args.high, **columns)
    part = datasets.split(dataset, "official", validation=0)
    train = Pictures.read(dataset, part.train, args.side)
    print(f"{args.folder}: {len(part.train):,} training and {len(part.test):,} test pictures", flush=True)

    pool = synthetic.Pool(synthetic.references(args.pristine), crop=args.crop, max_side=args.side, draws=args.batch,
                          reuse=8, device=args.device, background=False)
    pretraining = dict(steps=args.pretrain_steps, folder=args.work, batch=args.batch)
    begun, missing = starts("small", pool, [0], lr=1e-3, **pretraining)
    recipe = Recipe(args.work, args.steps, args.batch, args.crop, 1e-3)
    members = [_svr(name, dataset, args.cache) for name in ("nss_svr", "brisque_svr")]
    members += [recipe.member(PRETRAINED, begun["quality-aware"][0]), recipe.member(PLAIN, begun["random"][0])]
    if args.imagenet:
        begun, missing = starts("mobilenet_v2", pool, [0], lr=args.imagenet_lr, imagenet=args.imagenet, **pretraining)
        recipe = replace(recipe, lr=args.imagenet_lr)
        members += [recipe.member(IMAGENET_PRETRAINED, begun["quality-aware"][0]),
                    recipe.member(IMAGENET, begun["ImageNet"][0])]
    else:
        print(f"no ImageNet start: {missing}")
    folded = out_of_fold(members, train, args.folds, train.facts["group"].to_numpy())
    for name, reason in folded.failed.items():
        print(f"left out: {name}: {reason}")
    y = train.quality.numpy()
    folded.table.assign(id=train.facts["id"], quality=y).to_csv(args.work / "out_of_fold.csv", index=False)
    stack, biased = Stack().fit(folded.table, y), Stack().fit(folded.in_sample, y)
    print(f"{stack.path_.to_string(index=False)}\nkept: {stack.beta_}", flush=True)

    test = Pictures.read(dataset, part.test, args.side)
    truth, groups, subset = test.quality.numpy(), test.facts["group"].to_numpy(), test.facts["subset"].to_numpy()
    tested = folded.predict(test)
    methods = {"stack": stack.predict(tested), "mean of members": tested.mean(axis=1).to_numpy(),
               **{name: tested[name].to_numpy() for name in tested}}
    rows = []
    for name, prediction in methods.items():
        row = {"method": name}
        for which in ["all", *np.unique(subset)]:
            here = np.ones(len(truth), bool) if which == "all" else subset == which
            values = metrics(prediction[here], truth[here], groups[here], args.bootstrap)
            for metric in ("srocc", "plcc"):
                value = values.loc[metric]
                row[f"{which} {metric}"] = f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        rows.append(row)
    print(pd.DataFrame(rows).set_index("method").T.to_string(), flush=True)
    best = max(folded.table, key=lambda name: srocc(folded.table[name].to_numpy(), y))  # chosen in the training part
    for a, b in (("stack", best), ("stack", "mean of members"), (PRETRAINED, PLAIN),
                 (IMAGENET_PRETRAINED, IMAGENET), (IMAGENET, PLAIN)):
        if a in methods and b in methods:
            print("- " + compare(methods[a], methods[b], truth, "srocc", groups, args.bootstrap).sentence(a, b))
    claims = {"in sample: fitted and judged on what the members saw": (biased.predict(folded.in_sample), y),
              "out of fold: fitted and judged on what they had not seen": (stack.predict(folded.table), y),
              "the in-sample stack on the test part": (biased.predict(tested), truth),
              "the out-of-fold stack on the test part": (methods["stack"], truth)}
    for name, (prediction, target) in claims.items():
        values = metrics(prediction, target, bootstrap=100)["value"]
        print(f"{name}: SROCC {values['srocc']:.3f}, PLCC {values['plcc']:.3f}, n = {len(target):,}")
    print(f"{time.perf_counter() - begin:.0f} s, {time.process_time():.0f} s of processor, "
          f"{torch.get_num_threads()} threads, seed 0, {vars(args)}")


def _svr(name: str, dataset: datasets.Dataset, cache: str | None) -> Member:
    """A support vector machine on hand-crafted features of the files themselves, so that a cache knows them."""
    files = dataset.table.set_index("id")["image"]

    def fit(pictures: Pictures, tag: str) -> Fitted:
        print(f"{name}, {tag}", flush=True)
        estimator = baselines.make(name, cache=cache)
        estimator.fit(files[pictures.facts["id"]].tolist(), pictures.quality.numpy())
        return lambda wanted: estimator.predict(files[wanted.facts["id"]].tolist())

    return Member(baselines.make(name).title, fit)


if __name__ == "__main__":
    main()
