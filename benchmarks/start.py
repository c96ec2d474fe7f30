"""What the quick network learns in the same steps from random and DCT filters, with and without statistics, and by the
layers of its NodeBuilder.

    python -m benchmarks.start --steps 160 --seeds 3

Trained on mixed distorted crops of the embedded contents to name their type and score them; told on contents not seen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from gmiqa.data import synthetic
from gmiqa.evaluate import srocc
from gmiqa.experiments.graph_probe import all_nodes
from gmiqa_core import network, training
from gmiqa_core.losses import level_loss

ARMS: dict[str, dict[str, Any]] = {"random start": dict(stem_start="random", statistics=False),
        "random start, statistics": dict(stem_start="random", statistics=True),
        "DCT start": dict(stem_start="dct", statistics=False),
        "DCT start, statistics, two node layers": dict(node_hidden=256, node_width=128, pyramid=(1, 2, 4)),
        "DCT start, statistics (the preset)": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    learn, _, unseen = synthetic.split_references(synthetic.references("embedded"), 0)
    test = synthetic.test_set(unseen, crop=256)
    rows = []
    for seed in range(args.seeds):
        pool = synthetic.Pool(learn, types=range(26), crop=args.crop, reuse=12, draws=args.batch, seed=seed)

        def objective(model: Any, step: int, micro: int, pool: Any = pool) -> tuple[torch.Tensor, dict[str, Any]]:
            batch = pool.batch(step, args.batch)
            V = model.nodes(batch.images)
            quality = level_loss("kl", *model.score(V), batch.quality, batch.spread)
            return F.cross_entropy(model.classify(V), batch.type) + 0.5 * quality, {}

        for name, options in ARMS.items():
            torch.manual_seed(seed)
            model = network.build("quick", **options)
            began = time.perf_counter()
            training.train(model, objective, steps=args.steps, lr=3e-3, clip=1.0, seed=seed,
                           folder=tempfile.mkdtemp(), report=lambda *_: None)
            seconds = time.perf_counter() - began
            with torch.no_grad():
                V = all_nodes(model.eval(), test.images)
                named = (model.classify(V).argmax(-1) == test.type).float().mean()
                score = srocc(model.score(V)[0].numpy(), test.quality.numpy())
            rows.append({"start": name, "seconds": seconds, "named": float(named), "srocc": float(score)})
            print(f"seed {seed}, {name}: named {named:.3f}, SROCC {score:.3f}, {seconds:.0f} s", flush=True)
    table = pd.DataFrame(rows).groupby("start", sort=False).mean()
    table["seconds"] = table["seconds"] / table["seconds"].iloc[0]
    print(f"\nmean of {args.seeds} seeds, {args.steps} steps, {len(test):,} pictures of {len(unseen)} contents")
    print(table.rename(columns={"seconds": "time, of the first"}).round(3).to_string())


if __name__ == "__main__":
    main()
