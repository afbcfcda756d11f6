"""`autocast(SPEC; dtype=bfloat16)`: an operator whose products and convolutions are computed with half the bits.

PyTorch decides what bears it (its autocast lists): products and convolutions do, sums and softmax stay in float32, and
so do weights in memory. Lifting itself is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pipeline.operators.composed.members import check_members, check_seen, fingerprint
from pipeline.operators.geometry_valued import moves_between_views
from pipeline.protocols import Operator
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
Half = Literal["bfloat16", "float16"]


class Autocast:
    """An operator at half precision: about twice as fast where the hardware has instructions for the type.

    Args:
        operator: what is asked. Networks outside PyTorch (ONNX, ncnn) compute as they always do.
        dtype: bfloat16 keeps float32's range; float16 has three more bits, overflows above 65,504, and is slow on CPUs.
        device: torch device of the operator.
    """

    takes_operators = True
    name = "autocast"

    def __init__(self, operator: Operator, *, dtype: Half = "bfloat16", device: str = "cpu") -> None:
        check_members(self.name, [operator])
        check_seen(self.name, operator, "so that there is nothing to compute")
        if moves_between_views(operator):  # points in space need all their bits
            raise ConfigError(f"autocast({operator.name}) rounds values in space", remedy="depth(autocast(SPEC))")
        if dtype not in get_args(Half):
            raise ConfigError(f"autocast: dtype is {dtype!r:.80}, expected one of {', '.join(get_args(Half))}")
        self.operator, self.members = operator, (operator,)
        self.stride = operator.stride
        self.kind: Kind = operator.kind
        self.label_set = operator.label_set
        self._dtype, self._device = dtype, device

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """As the operator encodes, but for rounding; float32."""
        with self._context():
            return self.operator.encode(batch).float()

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """As the operator decodes, but for rounding; float32. Frame by frame: how half a number is rounded may depend
        on how many come with it."""
        import torch

        with self._context():
            return torch.cat([self.operator.decode(one, size).float() for one in features.split(1)])

    def fingerprint(self) -> str:
        """The operator's, and the type."""
        return fingerprint(self.name, VERSION, [self.operator], dtype=self._dtype)

    def _context(self) -> torch.autocast:
        import torch

        return torch.autocast(torch.device(self._device).type, getattr(torch, self._dtype))
