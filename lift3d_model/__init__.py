"""Lift3D in plain PyTorch: lift any per-view 2D prediction to a view-consistent one. Needs torch and numpy only."""

from lift3d_model.lifted import Lifted
from lift3d_model.model import Lift3D, LiftSettings
from lift3d_model.views import Depths, Views

__all__ = ["Depths", "Lift3D", "LiftSettings", "Lifted", "Views"]
