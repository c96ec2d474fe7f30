"""SROCC, PLCC, KROCC, RMSE with intervals; paired comparison; protocols; the paper's tables."""

from gmiqa.evaluate.agreement import METRICS as METRICS
from gmiqa.evaluate.agreement import logistic as logistic
from gmiqa.evaluate.claims import Claim as Claim
from gmiqa.evaluate.claims import outcome as outcome
from gmiqa.evaluate.claims import verdict as verdict
from gmiqa.evaluate.comparison import Comparison as Comparison
from gmiqa.evaluate.comparison import compare as compare
from gmiqa.evaluate.comparison import paired as paired
from gmiqa.evaluate.comparison import repeated as repeated
from gmiqa.evaluate.intervals import fit_logistic as fit_logistic
from gmiqa.evaluate.intervals import krocc as krocc
from gmiqa.evaluate.intervals import metrics as metrics
from gmiqa.evaluate.intervals import plcc as plcc
from gmiqa.evaluate.intervals import plcc_logistic as plcc_logistic
from gmiqa.evaluate.intervals import rmse as rmse
from gmiqa.evaluate.intervals import srocc as srocc
