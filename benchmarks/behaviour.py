"""What the scoring model does with pictures that nobody scored: does a score fall with severity, does the map find it?

    python -m benchmarks.behaviour                         # the bundled model on the embedded photographs
    python -m benchmarks.behaviour --checkpoint FILE --folder /data/kodak --contents 8

Severity: every type and level of every content, against KADID-10k's mean score of that cell. Map: one quadrant of a
picture is distorted at level 5, types and quadrants in turn; a hit is a worst place inside it (chance 0.25).
"""

from __future__ import annotations

import argparse

import pandas as pd

from gmiqa import Scorer, evaluate
from gmiqa.data import synthetic
from gmiqa.data.distortions import TYPES, calibration, distort
from gmiqa.score.result import distortion_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--folder", default="", help="pristine pictures (default: the embedded photographs)")
    parser.add_argument("--contents", type=int, default=7)
    args = parser.parse_args()
    scorer = Scorer(args.checkpoint, "cpu")
    contents = synthetic.references(args.folder or "embedded")
    contents = [c for c in contents if c.kind != "generated"][: args.contents]
    print(f"{args.checkpoint or 'the bundled model'}: {len(contents)} contents")

    rows = []
    for number, batch in enumerate(synthetic.test_batches(contents, types=range(26))):
        cells = zip(batch.type.tolist(), batch.level.tolist(), batch.quality.tolist(), strict=True)
        for score, (kind, level, cell) in zip(scorer.score_many(list(batch.images)), cells, strict=True):
            name = distortion_name(kind)
            rows.append({"content": number, "type": name, "level": level, "cell": cell, "score": score.quality,
                         "named": score.distortion == name})
    frame = pd.DataFrame(rows)
    agreement = evaluate.metrics(frame["score"], frame["cell"], frame["content"].to_numpy()).loc["srocc"]
    clean = frame[frame["level"] == 0].set_index("content")["score"]
    strong = frame[frame["level"] == 5]
    below = (strong["score"] < strong["content"].map(clean)).mean()
    mean = frame[frame["level"] > 0].groupby(["type", "level"])[["score", "cell"]].mean()
    follows = mean.groupby(level="type").apply(lambda g: g["score"].corr(g["cell"], method="spearman"))
    by_level = mean["score"].unstack("level").loc[[t.title for t in TYPES if t.id not in calibration.UNORDERED]]
    falls = by_level.diff(axis=1).iloc[:, 1:] < 0
    rises = by_level.index[by_level[5] >= by_level[1]]
    print(f"SROCC with the cells' scores {agreement.value:.3f} ({agreement.low:.3f} to {agreement.high:.3f}), "
          f"n = {len(frame):,}; named {frame['named'].mean():.1%}; "
          f"level 5 below the original in {below:.1%} of {len(strong)}")
    print(f"mean scores follow the cells (rank correlation 0.9) for {(follows >= 0.9).sum()} of 25 types, "
          f"not for {', '.join(follows.index[follows < 0.9])}")
    print(f"of {len(by_level)} types whose levels are severities, level 5 scores below level 1 in "
          f"{len(by_level) - len(rises)} (not in: {', '.join(rises) or 'none'}), "
          f"a level below the one before it in {falls.to_numpy().sum()} of {falls.size} steps")

    hits = []
    for number, content in enumerate(contents):
        x = next(synthetic.test_batches([content], types=[0])).images
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        for kind in TYPES:
            place = (number + kind.id) % 4
            top, left = height * (place // 2), width * (place % 2)
            distorted = x.clone()
            distorted[..., top: top + height, left: left + width] = distort(x, kind.name, 5)[
                ..., top: top + height, left: left + width]
            column, row = scorer.quality_map(distorted[0]).worst
            hits.append({"type": kind.title, "hit": top <= row < top + height and left <= column < left + width})
    table = pd.DataFrame(hits).groupby("type")["hit"].mean()
    print(f"the map's worst place lies in the distorted quadrant in {pd.DataFrame(hits)['hit'].mean():.1%} of "
          f"{len(hits)}; below half: {', '.join(table.index[table < 0.5]) or 'none'}")


if __name__ == "__main__":
    main()
