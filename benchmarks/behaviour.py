"""What the scoring model does with pictures that nobody scored: does a score fall with severity, does the map find it?

    python -m benchmarks.behaviour                         # the bundled model on the embedded photographs
    python -m benchmarks.behaviour --checkpoint FILE --folder /data/kodak --contents 8

See gmiqa/release/behaviour.py. Pictures are those that Scorer gets from a user: 8-bit, of any size.
"""

from __future__ import annotations

import argparse

import numpy as np
from torch import Tensor

from gmiqa import Scorer
from gmiqa.data import synthetic
from gmiqa.release import behaviour
from gmiqa.torch_engine import NAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--folder", default="", help="pristine pictures (default: the embedded photographs)")
    parser.add_argument("--contents", type=int, default=7)
    args = parser.parse_args()
    scorer = Scorer(args.checkpoint)
    contents = synthetic.references(args.folder or "embedded")
    contents = [c for c in contents if c.kind != "generated"][: args.contents]
    print(f"{args.checkpoint or 'the bundled model'}: {len(contents)} contents")

    def judge(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        scores = list(scorer.score_many(list(images)))
        return np.array([s.quality for s in scores]), np.array([NAMES.index(s.distortion) for s in scores])

    found = behaviour.falling(behaviour.cells(judge, contents))
    print(f"SROCC with the cells' scores {found['srocc']:.3f} ({found['srocc low']:.3f} to {found['srocc high']:.3f}), "
          f"n = {found['pictures']:,}; named {found['named']:.1%}; "
          f"level 5 below the original in {found['level 5 below original']:.1%} of {found['level 5']}")
    print(f"mean scores follow the cells (rank correlation 0.9) for {found['types that follow']} of 25 types, "
          f"not for {', '.join(found['not following']) or 'none'}")
    print(f"of {len(behaviour.ORDERED)} types whose levels are severities, level 5 does not score below level 1 for "
          f"{', '.join(found['rising']) or 'none'}; a level scores below the one before it in "
          f"{found['falling steps']} of {found['steps']} steps")
    hits = behaviour.quadrants(lambda images: [scorer.quality_map(picture).worst for picture in images], contents)
    by_type = hits.groupby("type")["hit"].mean()
    print(f"the map's worst place lies in the distorted quadrant in {hits['hit'].mean():.1%} of {len(hits)}; "
          f"below half: {', '.join(by_type.index[by_type < 0.5]) or 'none'}")


if __name__ == "__main__":
    main()
