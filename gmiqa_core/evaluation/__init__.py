"""SROCC, PLCC, KROCC, RMSE with intervals; paired comparison; protocols; the paper's tables."""

from gmiqa_core.evaluation.agreement import METRICS as METRICS
from gmiqa_core.evaluation.agreement import logistic as logistic
from gmiqa_core.evaluation.comparison import Comparison as Comparison
from gmiqa_core.evaluation.comparison import compare as compare
from gmiqa_core.evaluation.comparison import outcome as outcome
from gmiqa_core.evaluation.comparison import paired as paired
from gmiqa_core.evaluation.comparison import repeated as repeated
from gmiqa_core.evaluation.comparison import verdict as verdict
from gmiqa_core.evaluation.statistics import fit_logistic as fit_logistic
from gmiqa_core.evaluation.statistics import krocc as krocc
from gmiqa_core.evaluation.statistics import metrics as metrics
from gmiqa_core.evaluation.statistics import plcc as plcc
from gmiqa_core.evaluation.statistics import plcc_logistic as plcc_logistic
from gmiqa_core.evaluation.statistics import rmse as rmse
from gmiqa_core.evaluation.statistics import srocc as srocc
