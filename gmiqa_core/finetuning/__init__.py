"""Fine-tuning on scores, and prediction: pictures -> quality mu in [0,1], higher is better, and its spread sigma.

    finetune(model, dataset, split, steps=..., folder=...)      learn the scores of a data set
    predict(model, pictures)                                    DataFrame with columns mu and sigma

A share of the steps trains the type and level branch on synthetic graphs, so that a fine-tuned model still names
distortion and severity.
"""

from gmiqa_core.finetuning.pictures import Pictures, Target, read_all, synthetic_target
from gmiqa_core.finetuning.predict import as_tuned, crop_of, predict, side_effect
from gmiqa_core.finetuning.tune import LOSSES, Objective, finetune, gaussian_nll, score_loss, with_graph

__all__ = ["LOSSES", "Objective", "Pictures", "Target", "as_tuned", "crop_of", "finetune", "gaussian_nll", "predict",
           "read_all", "score_loss", "side_effect", "synthetic_target", "with_graph"]
