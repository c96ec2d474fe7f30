"""What a stage will take, before it has run: from steps, pictures a step, their size, and measured rates.

On a CPU the quick preset's seconds (order.py) are scaled by the pictures that the trainings see. On a GPU the trainings
have rates of their own. Good to about a factor of two, since no two machines are alike; the chain then corrects it by
what it sees. Not counted: baselines that are trained, and pictures read from a slow disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gmiqa.runs.order import SECONDS
from gmiqa.runs.provenance import repository_root
from gmiqa.runs.schedule import speed
from gmiqa.settings import load

# Images/s of a training on one H200: preset `paper`, 224 px, 64 pictures a step, bf16, the pictures at hand. Renew with
# python -m benchmarks.training --preset paper --side 224 --pictures 32
# Of the kinds of meta-learning, the first was measured; the others have their former share of its rate.
RATES = {"plain": 2189, "maml, first order": 1201, "maml": 630, "meta-sgd, first order": 1200, "meta-sgd": 540,
         "graph": 2465, "scores": 2069}
STEP = 64  # pictures of the step that was timed: one of fewer or smaller ones takes as long, the host sets the pace
SIDE = 224
# Computing of one picture, in that of `quick`: the backbones' multiplications; of lite and MetaQAP's base networks,
# seconds on one core.
COST = {"tiny": 0.13, "quick": 1.0, "cpu": 2.7, "lite": 5.5, "paper": 38.0, "repo": 38.0}
BASE_COST = {"small": 1.0, "mobilenet_v3": 1.7, "mobilenet_v2": 4.0, "lite0": 5.5, "lite1": 8.0, "lite2": 11.0}
# The share of a stage's seconds in the quick preset that its trainings take; the rest stays as it is.
TRAINED = {"20_meta_pretraining": 0.75, "30_distortion_graphs": 0.8, "40_fine_tuning": 0.75, "60_ablations": 0.85,
           "80_metaqap": 0.7}
WITHOUT_BF16 = 2.4  # a CPU without AVX512-BF16 takes so many times as long
PICTURES = {"kadid10k": 10125, "koniq10k": 10073, "livec": 1162, "csiq": 866, "live": 779, "biq2021": 12000,
            "tid2013": 3000, "spaq": 11125}  # of a data set; 1,000 where it is not known
ROWS = 19  # of the ablations, where all are asked for


@dataclass(frozen=True)
class Training:
    """``steps`` of ``pictures`` with ``side`` pixels each, through a network of relative ``cost``."""

    kind: str
    steps: float
    pictures: float
    side: float
    cost: float

    @property
    def work(self) -> float:
        """In pictures of SIDE pixels that the quick network sees in plain training."""
        return self.steps * self.pictures * (self.side / SIDE) ** 2 * self.cost * RATES["plain"] / RATES[self.kind]

    @property
    def gpu_seconds(self) -> float:
        least = self.steps * STEP / RATES[self.kind]
        return max(least, self.work / COST["paper"] / RATES["plain"])


def seconds(name: str, p: Any, threads: int, device: str = "") -> float:
    """What stage ``name`` takes with the settings ``p`` of all stages; ``device`` as ``hardware`` names it."""
    quick = SECONDS[name]
    trained = TRAINED.get(name, 0.0) * quick
    todo = trainings(name, p)
    if gpu(device):
        return quick - trained + sum(training.gpu_seconds for training in todo)
    usual = sum(training.work for training in trainings(name, _quick()))
    slow = 1.0 if "AVX512-BF16" in device or not device else WITHOUT_BF16
    scaled = trained * sum(training.work for training in todo) / usual if usual else 0.0
    return slow * (quick - trained + scaled) / speed(name, threads)


def trainings(name: str, p: Any) -> list[Training]:
    """What a stage trains."""
    if name.startswith("20"):
        return [_meta(p, (1 + len(p["meta_compare"])) * p["meta_seeds"] * p["meta_folds"])]
    if name.startswith("30"):
        return [_graph(p, 1 + len(p["graph_arms"]))]
    if name.startswith("40"):
        return _scores(p, 1)
    if name.startswith("60"):
        times = (len(p["ablation_rows"]) or ROWS) * p["ablation_seeds"] * p["ablation_share"]
        return [_meta(p, times), _graph(p, times), *_scores(p, times)]
    if name.startswith("80"):
        return _base_networks(p)
    return []


def _base_networks(p: Any) -> list[Training]:
    """Of the first with all seeds: pre-training, three starts, one for longer, three other weights of the loss. Of each
    with one seed: pre-training, and the members of two stacks."""
    before, tuned, folds = p["qap_pretrain_steps"], p["qap_finetune_steps"], p["qap_folds"]
    steps = [before + 2 * (folds + 1) * tuned for _ in p["qap_backbones"]]
    steps[0] += p["qap_seeds"] * (7 * tuned + 2 * before) - before
    return [Training("scores", n, p["qap_batch"], p["qap_crop"], BASE_COST.get(name, COST["paper"]))
            for name, n in zip(p["qap_backbones"], steps, strict=True)]


def _meta(p: Any, times: float) -> Training:
    kind = p["meta_algorithm"] + (", first order" if p["meta_first_order"] else "")
    return Training(kind, times * p["meta_steps"] * p["meta_tasks"], p["meta_support"] + p["meta_query"],
                    p["meta_crop"], COST[p["preset"]])


def _graph(p: Any, times: float) -> Training:
    mixed = p["graph_mixed"] if p["graph_classify"] or p["graph_quality"] else 0
    pictures = 3 * max(p["graph_batch"], *p["graph_sizes"]) + mixed
    return Training("graph", times * p["graph_steps"], pictures, p["graph_crop"], COST[p["preset"]])


def _scores(p: Any, times: float) -> list[Training]:
    """Fine-tuning: steps on scored pictures, and its share of steps on synthetic graphs."""
    batch, share = p["finetune_batch"], p["synthetic_share"]
    known = p["finetune_labels"] if p["dataset"] == "synthetic" else 0.72 * PICTURES.get(p["dataset"], 1000)
    steps = times * (p["finetune_epochs"] * max(1, known // batch) or p["finetune_steps"])
    side = p["finetune_crop"] or 0.87 * p["max_side"]  # a whole picture of 4 to 3
    scored = Training("scores", steps * (1 - share), batch, side, COST[p["preset"]])
    pictures = 3 * max(4, batch // 2) + 2 * batch
    return [scored, Training("graph", steps * share, pictures, p["synthetic_crop"], COST[p["preset"]])]


def hardware(device: str = "auto") -> str:
    """The device that ``device`` will be, in words, found without loading torch."""
    cards = [line.partition(":")[2].strip() for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
             for line in path.read_text().splitlines() if line.startswith("Model:")]
    if cards and not device.startswith("cpu"):
        return f"GPU {cards[0]}"
    try:
        fast = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        fast = False
    return "a CPU with AVX512-BF16" if fast else "a CPU of single precision"


def gpu(device: str) -> bool:
    return device.startswith("GPU")


@cache
def _quick() -> Any:
    return load(repository_root() / "params" / "quick.yaml")
