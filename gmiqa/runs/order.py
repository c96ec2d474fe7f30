"""Which notebook needs which: declared here and nowhere else (a test compares it with the notebooks)."""

from __future__ import annotations

from gmiqa_core.errors import UserError, did_you_mean

NEEDS: dict[str, tuple[str, ...]] = {
    "00_start_here": (),
    "10_data_and_distortions": (),
    "20_meta_pretraining": (),
    "30_distortion_graphs": ("20_meta_pretraining",),
    "40_fine_tuning": ("30_distortion_graphs",),
    "50_evaluation": ("40_fine_tuning",),
    "60_ablations": (),
    "70_embeddings": ("20_meta_pretraining", "30_distortion_graphs"),
    "80_metaqap": (),
    "90_report": (),
}

# Runs when all others have ended, finished or not: it reports what there is, and names what is missing.
LAST = "90_report"

# Seconds of each stage of params/quick.yaml on one thread of a free core with AVX512-BF16: every estimate, the order of
# the stages and their threads start from them. Those of 20, 30 and 40 are computed from the 215, 350 and 160 s measured
# before: 30 and 40 by what their shorter trainings see, 20 by the ratio of its processor time then and now (0.63).
# To measure them anew, on two cores that nothing else uses:
#   gmiqa run params/quick.yaml --jobs 2 --force --name measured -p threads=1
# and copy the seconds of each run.json, rounded, into this table.
SECONDS = {"00_start_here": 19, "10_data_and_distortions": 38, "20_meta_pretraining": 135, "30_distortion_graphs": 240,
           "40_fine_tuning": 90, "50_evaluation": 90, "60_ablations": 150, "70_embeddings": 60, "80_metaqap": 218,
           "90_report": 25}


def stage_name(text: str) -> str:
    """``30``, ``30_distortion_graphs`` or its file name -> the stage's name."""
    word = text.removesuffix(".ipynb").rpartition("/")[2]
    if word in NEEDS:
        return word
    matching = [name for name in NEEDS if name.startswith(f"{word}_")]
    if len(matching) != 1:
        raise UserError(f"no stage '{text}'{did_you_mean(word, NEEDS)}; the stages are {', '.join(NEEDS)}")
    return matching[0]


def above(name: str) -> set[str]:
    """Every stage that ``name`` depends on, directly or not."""
    direct = set(NEEDS[name])
    return direct.union(*(above(other) for other in direct))


def needs(name: str, unfinished: set[str]) -> set[str]:
    """What of the unfinished stages ``name`` has to wait for."""
    return unfinished - {name} if name == LAST else unfinished & above(name)


def below(name: str) -> set[str]:
    """Every stage that depends on ``name``, and the report."""
    return {other for other in NEEDS if name in above(other)} | ({LAST} - {name})
