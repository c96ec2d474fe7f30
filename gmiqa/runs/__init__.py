"""Run folders, their provenance, and the papermill chain. A notebook needs the three names below.

    stage.py       what a notebook calls: parameters, figures, tables, numbers, claims
    progress.py    a bar in JupyterLab, plain lines in batch
    provenance.py  run.json, versions, folders that are cleared only if they are ours
    keys.py        what a stage's result depends on, and what of that has changed
    order.py       which notebook needs which
    schedule.py    when a stage begins, on how many threads; estimate.py and pace.py: how long it takes
    chain.py       runs them with papermill (plan.py says which; execute.py is one child process)
    sweep.py       one chain run per point of a grid
"""

from gmiqa.runs.progress import Progress, progress
from gmiqa.runs.stage import Stage, open_stage

__all__ = ["Progress", "Stage", "open_stage", "progress"]
