"""How good labels are: metrics against ground truth, the baselines that lifting has to beat, confidence calibration."""

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
