"""MetaQAP on a data set with an official split: members fitted out of fold, their stack, and what each part adds.

    python -m benchmarks.metaqap /data/BIQ2021 --split official --device cuda --jobs 6      # 10,000 and 2,000 pictures
    python -m benchmarks.metaqap /data/pictures --csv index.csv --members lite0 nss_svr --compare lite0/mse

A member is a base network (gmiqa.experiments.backbones), `gmiqa` (preset lite from ImageNet, or --checkpoint), or a
baseline that learns from scores (nss_svr, brisque_svr). It starts from ImageNet where there are such weights; then
/random starts it without them, /pretrained adds quality-aware pre-training, /mse leaves the ranks out of the loss.
Members are fitted on folds of the training part that divide no scene, the stack on their out-of-fold predictions; on
the test part each is the mean of its folds' models. The test part is opened once, for the last table.

Every member's predictions are written as soon as it is done, and its trainings stay in the work folder, so a killed run
continues, and after --minutes the table is made of what there is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks import _metaqap_tables as tables
from gmiqa import base_networks, baselines, imagenet
from gmiqa.data import datasets, synthetic
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate.protocols import units
from gmiqa.experiments.folds import FAILURES, Fitted, Member, out_of_fold
from gmiqa.experiments.metaqap import Recipe, seeded_network
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError

MEMBERS = ("lite0", "lite1", "lite2", "mobilenet_v2", "small", "gmiqa", "nss_svr")
COMPARE = ("lite0/mse", "lite0/pretrained", "lite0/random", "small/pretrained")
SWITCHES = ("random", "pretrained", "mse")
SETTINGS = ("side", "crop", "batch", "epochs", "lr", "folds", "pretrain_steps", "folder", "csv", "split", "checkpoint",
            "mobilenet", "pristine")  # of a work folder, with the pictures


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)  # a process with threads of OpenMP cannot be forked
    try:
        if args.csv:
            columns = {name: getattr(args, name) for name in ("image", "score", "group", "subset")}
            dataset = datasets.load("folder", args.folder, csv=args.csv, low=args.low, high=args.high,
                                    split=args.split_column, **columns)
        else:
            dataset = datasets.load("biq2021", args.folder)
        part = datasets.split(dataset, args.split, validation=0)
        train, test = (Pictures.read(dataset, rows, args.side) for rows in (part.train, part.test))
        print(f"{dataset.title}: {len(train):,} training and {len(test):,} test pictures after "
              f"{time.monotonic() - args.begin:.0f} s", flush=True)
        same_work(args, len(train), len(test))
        fit = partial(fit_member, dataset=dataset, train=train, test=test, args=args)
        wanted = [name for name in in_order(args.members, args.compare) if not predictions(args, name).exists()]
        side_by_side([partial(fit, name) for name in wanted], args.jobs)
        everything = tables.gathered(args.work)
        if args.bootstrap:
            tables.report(everything, args.work, args.members, train, test, args.bootstrap)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(f"{time.monotonic() - args.begin:.0f} s in all, {args.jobs} processes, seed 0")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", help="BIQ2021 as its authors ship it; with --csv any folder of pictures")
    add("--csv", default="", help="CSV file of scores in the folder")
    for name, default in (("image", "file"), ("score", "mos"), *((x, x) for x in ("group", "subset"))):
        add(f"--{name}", default=default, help=f"column of the CSV file (default: {default})")
    add("--split-column", default="split", help="column of the CSV file that names the official parts")
    add("--low", type=float, default=0.0)
    add("--high", type=float, default=1.0)
    add("--split", default="official", help="official, or a stored split: 0 to 9")
    add("--members", nargs="+", default=MEMBERS, help="what is stacked")
    add("--compare", nargs="*", default=COMPARE, help="fitted in the same way, but not stacked")
    add("--mobilenet", default="", help="ImageNet weights of mobilenet_v2, see gmiqa.mobilenet")
    add("--checkpoint", default="", help="where gmiqa starts: one that has not seen these scores")
    add("--pristine", default="embedded", help="folder of undistorted pictures to pre-train on")
    add("--side", type=int, default=512, help="longer side of what the networks see")
    add("--crop", type=int, default=384, help="side of the training crops")
    add("--batch", type=int, default=32)
    add("--epochs", type=int, default=10, help="passes of a fine-tuning over its pictures")
    add("--lr", type=float, default=5e-4)
    add("--pretrain-steps", type=int, default=300)
    add("--folds", type=int, default=3)
    add("--bootstrap", type=int, default=1000, help="resamples behind an interval; 0: predictions only, no table")
    add("--device", default="cpu")
    add("--jobs", type=int, default=1, help="members fitted side by side; they share the decoded pictures")
    add("--minutes", type=float, default=float("inf"), help="members that are not done by then are left out")
    add("--cache", default=None, help="folder that keeps the hand-crafted features")
    add("--work", type=Path, default=Path("outputs/metaqap_benchmark"), help="folder of the trainings")
    args = parser.parse_args()
    args.begin = time.monotonic()
    args.deadline = args.begin + 60 * args.minutes
    return args


def in_order(members: Sequence[str], compare: Sequence[str]) -> list[str]:
    """Every member, and right after it what is compared with it."""
    places = {name: place for place, name in reversed(list(enumerate(members)))}
    return sorted(dict.fromkeys((*members, *compare)), key=lambda name: places.get(name.split("/")[0], len(members)))


def same_work(args: argparse.Namespace, train: int, test: int) -> None:
    """Refuse a work folder of other settings: its predictions cannot be stacked with these."""
    settings = {name: getattr(args, name) if isinstance(getattr(args, name), (int, float)) else str(getattr(args, name))
                for name in SETTINGS} | {"train": train, "test": test}
    file = args.work / "settings.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else settings
    changed = [f"{name} {known.get(name)} -> {value}" for name, value in settings.items() if known.get(name) != value]
    if changed:
        raise UserError(f"{args.work} holds another run ({', '.join(changed)}); give a new folder with --work")
    (args.work / "predictions").mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def side_by_side(tasks: list[partial], jobs: int) -> None:
    """Run the tasks, in forked processes where there are several: they inherit the pictures without a copy. This
    process must not have used a card before."""
    if jobs == 1:
        for task in tasks:
            task()
        return
    running: list[multiprocessing.process.BaseProcess] = []
    for task in tasks:
        while sum(process.is_alive() for process in running) >= jobs:
            time.sleep(0.1)
        running.append(multiprocessing.get_context("fork").Process(target=task))
        running[-1].start()
    for process in running:
        process.join()


def predictions(args: argparse.Namespace, name: str) -> Path:
    return args.work / "predictions" / f"{name.replace('/', '_').replace(':', '_')}.csv"


def fit_member(name: str, dataset: datasets.Dataset, train: Pictures, test: Pictures, args: argparse.Namespace) -> None:
    """Fit a member on every fold and write its predictions; one that fails is named, and the others go on."""
    begin = time.monotonic()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // args.jobs))
    try:
        if begin > args.deadline:
            raise UserError("no time left")
        member, there = member_of(name, dataset, args), train.on(args.device)
        folded = out_of_fold([member], there, args.folds, units(train.facts))
        parts = [pd.DataFrame({"part": "train", "id": train.facts["id"], "prediction": folded.table[name],
                               "in_sample": folded.in_sample[name]}),
                 pd.DataFrame({"part": "test", "id": test.facts["id"], "prediction": folded.predict(test)[name]})]
    except FAILURES as error:
        print(f"left out: {name}: {error}", flush=True)
        return
    pd.concat(parts).assign(member=name).to_csv(predictions(args, name), index=False, float_format="%.6g")
    print(f"{name}: {args.folds} folds in {time.monotonic() - begin:.0f} s", flush=True)


def member_of(name: str, dataset: datasets.Dataset, args: argparse.Namespace) -> Member:
    """The member of that name, its switches applied."""
    base, *switches = name.split("/")
    if unknown := set(switches) - set(SWITCHES):
        raise UserError(f"{name}: {', '.join(unknown)} is no switch; there are {', '.join(SWITCHES)}")
    recipe = Recipe(args.work, 0, args.batch, args.crop, args.lr, (1.0, 0.0) if "mse" in switches else (0.5, 0.5),
                    epochs=args.epochs, deadline=args.deadline)
    if base in baselines.NAMES:
        return svr_member(name, dataset, args.cache)
    if base == "gmiqa":
        return recipe.gmiqa_member(name, gmiqa_start(args, "random" in switches).to(args.device))
    start = "random" if base == "small" or "random" in switches else "imagenet"
    model = seeded_network(0, base, start, args.mobilenet).to(args.device)
    if "pretrained" in switches:
        pool = synthetic.Pool(synthetic.references(args.pristine), crop=args.crop, max_side=args.side, draws=args.batch,
                              reuse=8, device=args.device, background=False)
        folder = args.work / f"pretrain_{base}_{start}".replace(":", "_")
        base_networks.pretrain(model, pool, steps=args.pretrain_steps, folder=folder, batch=args.batch, lr=args.lr)
    return recipe.member(name, model)


def gmiqa_start(args: argparse.Namespace, random: bool) -> network.GMIQA:
    """GMIQA from a checkpoint of pre-training, or with the backbone from ImageNet."""
    if args.checkpoint:
        return checkpoints.load(args.checkpoint)[0]
    torch.manual_seed(0)
    model = network.build("lite")
    model.start = imagenet.imagenet_start(model.backbone, "none" if random else "package")
    return model


def svr_member(name: str, dataset: datasets.Dataset, cache: str | None) -> Member:
    """A baseline on the files themselves, so that a cache of features knows them."""
    files = dataset.table.set_index("id")["image"].map(lambda image: str(Path(dataset.root) / image))

    def fit(pictures: Pictures, tag: str) -> Fitted:
        estimator = baselines.make(name, cache=cache)
        estimator.fit(files[pictures.facts["id"]].tolist(), pictures.quality.cpu().numpy())
        return lambda wanted: estimator.predict(files[wanted.facts["id"]].tolist())

    return Member(name, fit)


if __name__ == "__main__":
    main()
