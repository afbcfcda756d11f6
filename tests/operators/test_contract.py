"""What a misbehaving operator is told."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.grid import grid_size, pad_to_stride, upsample
from schemas.errors import ContractError


def operator(kind: str = "features", stride: int = 4) -> Any:
    label_set = SimpleNamespace(ids=(1, 2, 3)) if kind == "classes" else None
    return SimpleNamespace(name="mine", kind=kind, stride=stride, label_set=label_set)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (None, "NoneType"),
        (torch.zeros(2, 5, 4, 5), r"\[2, C, 3, 5\] (images of 10 x 18 px at stride 4)"),
        (torch.zeros(1, 5, 3, 5), "shape [1, 5, 3, 5]"),
        (torch.zeros(2, 5, 15), "shape [2, 5, 15]"),
        (torch.zeros(2, 0, 3, 5), "empty"),
        (torch.zeros(2, 5, 3, 5, dtype=torch.int32), "torch.int32"),
        (torch.full((2, 5, 3, 5), torch.nan), "150 of 150 values infinite or NaN"),
    ],
)
def test_bad_features_are_refused(make_batch: Any, features: Any, says: str) -> None:
    batch = make_batch((2, 10, 18))
    with pytest.raises(ContractError) as caught:
        check_encoded(operator(), features, batch)
    assert says.replace("\\", "") in str(caught.value)
    assert "scene 'room'" in str(caught.value)


def test_good_features_pass(make_batch: Any) -> None:
    check_encoded(operator(), torch.zeros(2, 5, 3, 5, dtype=torch.float16), make_batch((2, 10, 18)))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("classes", (2, 3, 10, 18), (2, 4, 10, 18)),
        ("image", (2, 3, 10, 18), (2, 1, 10, 18)),
        ("scalar", (2, 1, 10, 18), (2, 1, 10, 17)),
        ("features", (2, 7, 3, 5), (1, 7, 3, 5)),
    ],
)
def test_decoded_shapes_by_kind(kind: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    check_decoded(operator(kind), torch.rand(good), (10, 18), 2)
    with pytest.raises(ContractError, match="expected"):
        check_decoded(operator(kind), torch.rand(bad), (10, 18), 2)


def test_rgb_must_be_in_the_unit_range() -> None:
    with pytest.raises(ContractError, match=r"RGB from 0 to 255"):
        check_decoded(operator("image"), torch.tensor([0.0, 255.0]).repeat(3).view(1, 3, 1, 2), (1, 2), 1)


@settings(deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), stride=st.integers(1, 16))
def test_padding_and_upsampling_keep_the_grid(height: int, width: int, stride: int) -> None:
    """A linear ramp, averaged over cells and upsampled, is the same ramp where four whole cells surround a pixel."""
    size = (height, width)
    ramp = torch.arange(width, dtype=torch.float32).add(0.5).expand(1, 1, height, width)
    padded = pad_to_stride(ramp, stride)
    h, w = grid_size(size, stride)
    assert padded.shape[-2:] == (h * stride, w * stride)
    assert torch.equal(padded[..., :height, :width], ramp)
    centres = (torch.arange(w) + 0.5).mul(stride).expand(1, 1, h, w)
    up = upsample(centres, stride, size)
    assert up.shape == ramp.shape
    inside = slice(stride // 2 + 1, max(stride // 2 + 1, w * stride - stride // 2 - 1))
    torch.testing.assert_close(up[..., inside], ramp[..., inside])


def test_upsample_refuses_another_grid() -> None:
    with pytest.raises(ValueError, match="grid"):
        upsample(torch.zeros(1, 1, 4, 4), 4, (10, 18))
