"""Run folders, their provenance, and the papermill chain. A notebook needs the three names below.

    stage.py       what a notebook calls: parameters, figures, tables, numbers, claims
    progress.py    a bar in JupyterLab, plain lines in batch
    provenance.py  keys, fingerprints, run.json
    chain.py       which notebook needs which; runs them with papermill (execute.py is one child process)
    report.py      report.html from what the stages registered
    sweep.py       one chain run per point of a grid
"""

from gmiqa.runs.progress import Progress, progress
from gmiqa.runs.stage import Stage, open_stage

__all__ = ["Progress", "Stage", "open_stage", "progress"]
