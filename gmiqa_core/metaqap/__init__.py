"""MetaQAP (arXiv 2506.16601): quality-aware pre-training, the quality-aware loss, and stacking of base networks.

    model = QualityNetwork("resnet50")                       any of torchvision's classifiers in BACKBONES, or "small"
    pretrain(model, pool, steps=..., folder=...)             synthetic distortions: pseudo-score and type
    finetune(model, pictures, steps=..., folder=...)         scores of a target data set, by the quality-aware loss
    folded = out_of_fold(members, pictures, ...)             what each member says of pictures it has not seen
    stack = Stack().fit(folded.table, scores)                the linear meta-learner over them
    stack.predict(folded.predict(others))                    scores of other pictures
"""

from gmiqa_core.metaqap.folds import Member, OutOfFold, out_of_fold
from gmiqa_core.metaqap.networks import BACKBONES, QualityNetwork, finetune, predict, pretrain
from gmiqa_core.metaqap.stacking import Stack
from gmiqa_core.quality_aware import quality_aware_loss, soft_ranks, soft_spearman

__all__ = ["BACKBONES", "Member", "OutOfFold", "QualityNetwork", "Stack", "finetune", "out_of_fold", "predict",
           "pretrain", "quality_aware_loss", "soft_ranks", "soft_spearman"]
