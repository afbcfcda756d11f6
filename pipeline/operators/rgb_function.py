"""`rgb:package.module:function`: any function from RGB image to RGB image: colorization, editing, a filter."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.operators.grid import upsample
from pipeline.operators.pixels import as_bytes
from schemas.errors import ConfigError, ContractError, OperatorError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""


class RgbFunction:
    """What the function makes of every image. Views are painted alone; lifting makes them agree.

    Args:
        function: `package.module:name` of a function from bytes [H, W, 3] to bytes [H, W, 3].
        version: goes into the fingerprint; change it when the function's results change.
        arguments: keyword arguments of the function, such as an instruction.
    """

    name = "rgb"
    kind: Kind = "image"
    label_set = None
    stride = 1

    def __init__(self, function: str, *, version: str = "1", **arguments: Any) -> None:
        self._function = _imported(function)
        self._arguments, self._text = arguments, f"{function}:{version}:{sorted(arguments.items())}"

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """The function's images [B, 3, H, W] in [0, 1]."""
        import torch

        return torch.stack([self._made(image) for image in batch.images]).to(batch.images.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours in [0, 1]."""
        return upsample(features, self.stride, size).clamp(0, 1)

    def fingerprint(self) -> str:
        """The function's name, version and arguments."""
        return f"rgb:{VERSION}:{self._text}"

    def _made(self, image: Tensor) -> Tensor:
        import numpy as np
        import torch

        given = as_bytes(image)
        made = self._function(given, **self._arguments)
        if not isinstance(made, np.ndarray) or made.dtype != np.uint8 or made.shape != given.shape:
            found = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else f"a {type(made).__name__}"
            raise ContractError(f"{self._text}: found {found}, expected uint8 {given.shape}")
        return torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1).float() / 255


def _imported(function: str) -> Callable[..., Any]:
    module, colon, name = function.partition(":")
    if not colon:
        raise ConfigError(f"rgb:{function} names no function", remedy="rgb:package.module:function")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise OperatorError(
            f"rgb:{function} cannot be imported: {error}", remedy="add its folder to PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"rgb:{function} is a {type(found).__name__}, expected a function")
    called: Callable[..., Any] = found
    return called
