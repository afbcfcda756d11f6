"""2D operators: the vision models whose predictions are lifted. See docs/operators.md for the contract."""

from pipeline.operators.catalogue import OperatorInfo
from pipeline.operators.registry import build_operator, list_operators

__all__ = ["OperatorInfo", "build_operator", "list_operators"]
