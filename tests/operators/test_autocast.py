"""`autocast(SPEC)`: half precision where PyTorch computes products, and nothing else of an operator changes."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.operators import build_operator
from pipeline.operators.checker import check_spec
from pipeline.operators.composed.autocast import Autocast, Half
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.licences import Weights, weights_of
from schemas.errors import ConfigError
from schemas.store import Kind

HERE = f"{__name__}:Network"
SPACING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Largest relative error of rounding to the type."""


class Network:
    """Two convolutions, drawn by a seed: edge strength of a kind."""

    name, kind, label_set = "network", "scalar", None

    def __init__(self, stride: int = 1, seed: int = 0, device: str = "cpu") -> None:
        self.stride, self.seed = stride, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride, 1), nn.ReLU(), nn.Conv2d(8, 1, 3, 1, 1)).to(device)
        self.layers.requires_grad_(False)
        self.used: list[torch.dtype] = []

    def encode(self, batch: Any) -> torch.Tensor:
        found = self.layers(batch.images)
        self.used.append(found.dtype)
        return found

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return nn.functional.interpolate(features, scale_factor=self.stride)[..., : size[0], : size[1]]

    def fingerprint(self) -> str:
        return f"network {self.stride} {self.seed}"

    def weights_info(self) -> Sequence[Weights]:
        return (Weights("drawn", "mit"),)


class InSpace(Network):
    """Its values are moved from view to view."""

    kind: Kind = "scalar"

    def to_world(self, features: torch.Tensor, cameras: Any) -> torch.Tensor:  # noqa: ARG002
        return features

    to_camera = to_world


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_computes_with_half_the_bits_and_tells_float32(make_batch: Any, dtype: Half) -> None:
    network, batch = Network(2), make_batch((2, 20, 28))
    half = Autocast(network, dtype=dtype)
    features = half.encode(batch)
    check_encoded(half, features, batch)
    decoded = half.decode(features, (20, 28))
    check_decoded(half, decoded, (20, 28), 2)
    exact = network.encode(batch)
    assert network.used == [getattr(torch, dtype), torch.float32]
    assert features.dtype == decoded.dtype == torch.float32
    assert all(weights.dtype == torch.float32 for weights in network.layers.parameters())
    off = (features - exact).abs().max() / exact.abs().max()
    assert 0 < off < 4 * SPACING[dtype]


def test_what_is_lifted_outside_of_it_keeps_its_bits(make_batch: Any) -> None:
    Autocast(Network()).encode(make_batch((1, 8, 8)))
    ones = torch.ones(4, 4)
    assert not torch.is_autocast_enabled("cpu") and (ones @ ones).dtype == torch.float32


def test_its_fingerprint_says_what_it_is_made_of() -> None:
    specs = [HERE, f"autocast({HERE})", f"autocast({HERE}; dtype=float16)", f"autocast({HERE}(; seed=1))"]
    assert len({build_operator(spec).fingerprint() for spec in specs}) == len(specs)
    assert weights_of(build_operator(specs[1])) == (Weights("drawn", "mit"),)


def test_it_keeps_the_contract() -> None:
    findings = check_spec(f"autocast({HERE}(; stride=2))", elsewhere=False)
    assert [one for one in findings if one.status == "breach"] == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (f"autocast({HERE}; dtype=float32)", "expected one of bfloat16, float16"),
        ("autocast:indoor", "expected an operator in brackets"),
        (f"autocast({__name__}:InSpace)", "rounds values in space"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_operator(spec)


@pytest.mark.gpu
def test_on_a_gpu_too(make_batch: Any) -> None:
    network = Network(2, device="cuda")
    batch = make_batch(torch.rand(2, 3, 20, 28).cuda())
    assert Autocast(network, device="cuda").encode(batch).is_cuda and network.used == [torch.bfloat16]
