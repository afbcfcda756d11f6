"""What an operator must be and return, checked: a broken operator costs frames with a clear reason, never a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, get_args

from pipeline.operators.grid import grid_size
from pipeline.protocols import Operator
from schemas.errors import ContractError
from schemas.label_sets import LabelSet
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

HELP = "the contract is in docs/operators.md"
IMAGE_TOLERANCE = 1e-3
"""How far RGB may leave [0, 1]: less than a step of 8 bits."""


def check_operator(operator: Any, spec: str) -> Operator:
    """Return `operator` if it has every attribute of the protocol with a sensible value, else raise `ContractError`."""
    absent = [name for name in ("name", "stride", "kind", "label_set") if not hasattr(operator, name)]
    absent += [
        f"{name}()" for name in ("encode", "decode", "fingerprint") if not callable(getattr(operator, name, None))
    ]
    if absent:
        raise ContractError(f"operator {spec!r} lacks {', '.join(absent)}", remedy=HELP)
    _check_values(operator, spec)
    checked: Operator = operator
    return checked


def _check_values(operator: Any, spec: str) -> None:
    def refuse(attribute: str, expected: str) -> NoReturn:
        found = getattr(operator, attribute)
        raise ContractError(f"operator {spec!r}: {attribute} is {found!r}, expected {expected}", remedy=HELP)

    if not isinstance(operator.name, str) or not operator.name:
        refuse("name", "a short text")
    if type(operator.stride) is not int or operator.stride < 1:
        refuse("stride", "a whole number of pixels, 1 or more")
    if operator.kind not in get_args(Kind):
        refuse("kind", f"one of {', '.join(get_args(Kind))}")
    if operator.kind == "classes" and not isinstance(operator.label_set, LabelSet):
        refuse("label_set", "a LabelSet, as kind is 'classes'")
    if operator.kind != "classes" and operator.label_set is not None:
        refuse("label_set", f"None, as kind is {operator.kind!r}")


def check_encoded(operator: Operator, features: Any, batch: FrameBatch[Tensor]) -> None:
    """Raise `ContractError` unless `features` is a finite float [B, C, h, w] on the grid of the batch's images."""
    height, width = batch.images.shape[-2:]
    h, w = grid_size((height, width), operator.stride)
    expected = f"[{len(batch.frames)}, C, {h}, {w}] (images of {height} x {width} px at stride {operator.stride})"
    _check(f"operator {operator.name!r}: encode", features, (len(batch.frames), None, h, w), expected, batch)


def check_decoded(operator: Operator, decoded: Any, size: tuple[int, int], batch_size: int) -> None:
    """Raise `ContractError` unless `decoded` is what the operator's kind promises for `batch_size` images of `size`.

    classes [B, K, H, W] with K the label set's classes; image [B, 3, H, W] in [0, 1]; scalar [B, 1, H, W];
    features [B, C, h, w] at any resolution. Always finite and float.
    """
    where = f"operator {operator.name!r}: decode"
    channels = {"classes": len(operator.label_set.ids) if operator.label_set else None, "image": 3, "scalar": 1}
    shape = (batch_size, channels.get(operator.kind), *(size if operator.kind != "features" else (None, None)))
    axes = [str(n) if n else axis for n, axis in zip(shape, ("B", "C", "h", "w"), strict=True)]
    _check(where, decoded, shape, f"[{', '.join(axes)}] (kind {operator.kind!r})")
    if operator.kind == "image" and not _in_unit_range(decoded):
        low, high = float(decoded.min()), float(decoded.max())
        raise ContractError(f"{where} returned RGB from {low:.3g} to {high:.3g}, expected [0, 1]", remedy=HELP)


def check_indices(operator: Operator, found: Any, batch: FrameBatch[Tensor]) -> None:
    """Raise `ContractError` unless `class_indices` returned int16 [B, H, W] of the label set's classes, or -1."""
    import torch

    shape = [len(batch.frames), *batch.images.shape[-2:]]
    classes = len(operator.label_set.ids) if operator.label_set else 0
    where, wanted = f"operator {operator.name!r}: class_indices", f"int16 {shape} in -1..{classes - 1}"
    if not isinstance(found, torch.Tensor) or found.dtype != torch.int16 or list(found.shape) != shape:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise ContractError(f"{where} returned {what}, expected {wanted}", scene=batch.scene, remedy=HELP)
    if found.numel() and not (int(found.min()) >= -1 and int(found.max()) < classes):
        spans = f"{int(found.min())}..{int(found.max())}"
        raise ContractError(f"{where} returned {spans}, expected {wanted}", scene=batch.scene, remedy=HELP)


def _check(
    where: str, value: Any, shape: tuple[int | None, ...], expected: str, batch: FrameBatch[Tensor] | None = None
) -> None:
    import torch

    scene = batch.scene if batch else None
    frame = batch.frames[0] if batch and len(batch.frames) == 1 else None

    def refuse(found: str, wanted: str) -> NoReturn:
        raise ContractError(f"{where} returned {found}, expected {wanted}", scene=scene, frame=frame, remedy=HELP)

    if not isinstance(value, torch.Tensor):
        refuse(f"a {type(value).__name__}", "a torch tensor")
    if value.dim() != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        refuse(f"shape {list(value.shape)}", expected)
    if not value.dtype.is_floating_point:
        refuse(f"{value.dtype}", "a float type")
    if value.numel() == 0:
        refuse(f"an empty tensor of shape {list(value.shape)}", expected)
    # The sum of finite values is nearly always finite, and one pass over them.
    if not bool(torch.isfinite(value.sum())) and not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        refuse(f"{bad} of {value.numel()} values infinite or NaN", "finite values")


def _in_unit_range(value: Tensor) -> bool:
    return bool(value.min() >= -IMAGE_TOLERANCE) and bool(value.max() <= 1 + IMAGE_TOLERANCE)
