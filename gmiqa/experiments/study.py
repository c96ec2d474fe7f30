"""The study: every experiment as units of work that stand alone, each a few columns of a small table.

    experiment = EXPERIMENTS["ablations"]
    for shard in experiment.shards(p):                    # shards share no pictures: they may run side by side
        work = experiment.open(p, shard)                  # makes the pictures that its units share
        for unit in experiment.units(p, shard):
            table = work(unit, folder)                    # DataFrame indexed by experiment.keys

Tables of units are put together by `joined`; `finished` says which units a table holds. A network is trained on one
thread and in single precision, so that one kind of machine gives the same numbers.
"""

from __future__ import annotations

from gmiqa.experiments import study_gmiqa, study_metaqap
from gmiqa.experiments.study_unit import Experiment, joined

__all__ = ["EXPERIMENTS", "Experiment", "joined"]

EXPERIMENTS: dict[str, Experiment] = study_gmiqa.EXPERIMENTS | study_metaqap.EXPERIMENTS
