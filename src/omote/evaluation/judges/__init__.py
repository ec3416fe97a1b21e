"""Expression and identity judges: small published networks that no model here is trained with, re-written in torch."""

from omote.evaluation.judges.crop import CropRule, cut, square
from omote.evaluation.judges.panel import (
    JUDGES,
    ExpressionJudges,
    ExpressionScores,
    IdentityJudge,
    load_expression_judges,
    load_identity_judge,
)
from omote.evaluation.judges.weights import JudgeError, locate

__all__ = [
    "JUDGES",
    "CropRule",
    "ExpressionJudges",
    "ExpressionScores",
    "IdentityJudge",
    "JudgeError",
    "cut",
    "load_expression_judges",
    "load_identity_judge",
    "locate",
    "square",
]
