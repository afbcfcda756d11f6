"""Operators that are made of others: what must hold whatever they are made of."""

import logging
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from pipeline.operators import build_operator
from pipeline.operators.composed.ensemble import Ensemble
from pipeline.operators.composed.relabel import Relabel
from pipeline.operators.composed.tta import Tta
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.grid import pad_to_stride, upsample
from pipeline.predicting import class_ids
from schemas.errors import ConfigError, ContractError, OperatorError
from schemas.label_sets import LabelSet, label_set
from schemas.store import Kind


class Colours:
    """Class probabilities from the mean colour of cells: a mirrored image gives mirrored features."""

    name = "colours"

    def __init__(self, stride: int = 4, seed: int = 0, labels: LabelSet | None = None, kind: Kind = "classes") -> None:
        self.stride, self.seed, self.kind = stride, seed, kind
        self.label_set = (labels or label_set("nyu40")) if kind == "classes" else None
        outputs = len(self.label_set.ids) if self.label_set else {"scalar": 1, "image": 3, "features": 3}[kind]
        self.matrix = torch.randn(outputs, 3, generator=torch.Generator().manual_seed(seed))

    def encode(self, batch: Any) -> torch.Tensor:
        return avg_pool2d(pad_to_stride(batch.images, self.stride), self.stride)

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        out = upsample(torch.einsum("kc,bchw->bkhw", self.matrix, features), self.stride, size)
        return out.softmax(1) if self.kind == "classes" else out.sigmoid()

    def fingerprint(self) -> str:
        return f"colours {self.stride} {self.seed}"


class OffCentre(Colours):
    """Not equivariant: it darkens the left of every image."""

    def encode(self, batch: Any) -> torch.Tensor:
        ramp = torch.linspace(0, 1, batch.images.shape[-1])
        return avg_pool2d(pad_to_stride(batch.images * ramp, self.stride), self.stride)


class InSpace(Colours):
    """Its values are moved from view to view."""

    def to_world(self, features: torch.Tensor, cameras: Any) -> torch.Tensor:  # noqa: ARG002
        return features

    def to_camera(self, features: torch.Tensor, cameras: Any) -> torch.Tensor:  # noqa: ARG002
        return features


def predict(operator: Any, batch: Any) -> torch.Tensor:
    """The prediction, with the contract checked on the way."""
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    size = tuple(batch.images.shape[-2:])
    decoded = operator.decode(features, size)
    check_decoded(operator, decoded, size, len(batch.frames))
    return decoded


WEIGHTS = st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any)
SIZE = (2, 22, 31)  # no multiple of any stride here


@pytest.mark.parametrize("stride", [1, 4, 7])
def test_mirroring_what_does_not_mind_changes_nothing(make_batch: Any, stride: int) -> None:
    batch = make_batch((2, 21, 28) if stride == 7 else (2, 24, 32))
    plain = Colours(stride)
    torch.testing.assert_close(predict(Tta(plain), batch), predict(plain, batch), atol=1e-6, rtol=0)
    off = OffCentre(stride)
    assert not torch.allclose(predict(Tta(off), batch), predict(off, batch), atol=1e-3)


def test_a_mirrored_image_gives_the_mirrored_prediction(make_batch: Any) -> None:
    batch = make_batch((1, 24, 32))
    mirrored = make_batch(batch.images.flip(-1))
    operator = Tta(OffCentre(4))
    torch.testing.assert_close(predict(operator, mirrored), predict(operator, batch).flip(-1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 1.5, 2])
def test_other_sizes_stay_on_the_grid(make_batch: Any, scale: float) -> None:
    """A ramp does not move by a hundredth of a pixel, whatever the size and however odd the image."""
    ramp = (torch.arange(30) + 0.5).div(30).expand(1, 3, 21, 30)
    batch = make_batch(ramp)
    found = Tta(Colours(2, kind="features"), flips=False, scales=[scale]).encode(batch)
    exact = Colours(2, kind="features").encode(batch)
    off = (found - exact)[0, 0, 3:-3, 3:-3] * 30
    assert off.mean().abs() < 0.01 and off.abs().max() < 0.05


def test_no_copies_is_the_operator_itself(make_batch: Any) -> None:
    batch, operator = make_batch(SIZE), OffCentre(4)
    assert torch.equal(predict(Tta(operator, flips=False), batch), predict(operator, batch))


def test_copies_come_with_their_cameras(make_batch: Any) -> None:
    seen = []

    class Looks(Colours):
        def encode(self, batch: Any) -> torch.Tensor:
            seen.append((tuple(batch.images.shape[-2:]), batch.cameras[0]))
            return super().encode(batch)

    Tta(Looks(4), scales=[2]).encode(make_batch((1, 22, 30)))
    assert [size for size, _ in seen] == [(48, 64), (48, 64)]
    for size, camera in seen:
        assert (camera.height, camera.width) == size
        assert camera.K[0, 0] == pytest.approx(60)
    assert seen[0][1].K[0, 2] == pytest.approx(30) and seen[1][1].K[0, 2] == pytest.approx(34)


@pytest.mark.parametrize("kind", ["classes", "scalar", "image"])
def test_an_ensemble_of_one_opinion_is_that_opinion(make_batch: Any, kind: Kind) -> None:
    batch, one = make_batch(SIZE), Colours(4, kind=kind)
    assert torch.equal(predict(Ensemble(one, Colours(4, kind=kind)), batch), predict(one, batch))


@pytest.mark.parametrize("kind", ["classes", "scalar"])
def test_who_has_all_the_weight_decides(make_batch: Any, kind: Kind) -> None:
    batch = make_batch(SIZE)
    one, other = Colours(4, 1, kind=kind), Colours(7, 2, kind=kind)
    assert torch.equal(predict(Ensemble(one, other, weights=[1, 0]), batch), predict(one, batch))
    assert torch.equal(predict(Ensemble(one, other, weights=[0, 3]), batch), predict(other, batch))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(weights=WEIGHTS, order=st.permutations(range(3)), factor=st.integers(1, 9))
def test_the_order_and_the_unit_of_weights_do_not_matter(
    make_batch: Any, weights: list[int], order: list[int], factor: int
) -> None:
    batch = make_batch((1, 9, 13))
    members = [Colours(4, 1), Colours(1, 2), OffCentre(7, 3)]
    plain = predict(Ensemble(*members, weights=weights), batch)
    shuffled = Ensemble(*(members[n] for n in order), weights=[factor * weights[n] for n in order])
    torch.testing.assert_close(predict(shuffled, batch), plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.sum(1), torch.ones(1, 9, 13), atol=1e-5, rtol=0)


def test_members_of_other_label_sets_vote_through_the_cross_walk(make_batch: Any) -> None:
    batch = make_batch(SIZE)
    coco = Colours(4, 5, labels=label_set("coco133"))
    mixed = Ensemble(Colours(4, 1), coco, weights=[0, 1])
    assert mixed.label_set == label_set("nyu40")
    assert torch.equal(predict(mixed, batch), predict(Relabel(coco, "nyu40", unmapped="ignore"), batch))


@pytest.mark.parametrize(("source", "target"), [("coco133", "nyu40"), ("nyu40", "scannet20"), ("scannet200", "ade20k")])
def test_relabelled_pixels_are_the_mapped_labels(make_batch: Any, source: str, target: str) -> None:
    batch = make_batch(SIZE)
    raw = Colours(1, 3, labels=label_set(source))
    mapped = Relabel(raw, target, unmapped="ignore")
    walk = mapped._walk
    before, after = class_ids(predict(raw, batch)[0]), class_ids(predict(mapped, batch)[0])
    ids = [walk.ids.get(raw.label_set.ids[k]) for k in before.flatten().tolist()]
    expected = [-1 if i is None else walk.target.ids.index(i) for i in ids]
    assert after.flatten().tolist() == expected
    assert len(set(expected)) > 2


def test_pixels_without_a_prediction_stay_without(make_batch: Any) -> None:
    class Silent(Colours):
        def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            return super().decode(features, size) * 0

    found = predict(Relabel(Silent(4), "nyu40"), make_batch(SIZE))
    assert (class_ids(found[0]) == -1).all()


def test_classes_that_become_none_are_an_error_or_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"20 of 40 classes of 'colours' have no counterpart in 'scannet20': blinds"):
        Relabel(Colours(), "scannet20")
    with caplog.at_level(logging.WARNING):
        chosen = Relabel(Colours(), "scannet20", unmapped="ignore")
    assert len(chosen.unmapped) == 20 and "blinds" in caplog.text


def test_every_setting_and_every_member_is_in_the_fingerprint() -> None:
    marks = [
        Tta(Colours()).fingerprint(),
        Tta(Colours(), flips=False).fingerprint(),
        Tta(Colours(), scales=[1, 2]).fingerprint(),
        Tta(Colours(seed=1)).fingerprint(),
        Ensemble(Colours(), Colours(seed=1)).fingerprint(),
        Ensemble(Colours(seed=1), Colours()).fingerprint(),
        Ensemble(Colours(), Colours(seed=1), weights=[2, 1]).fingerprint(),
        Ensemble(Colours(), Colours(seed=1), label_set="scannet20").fingerprint(),
        Relabel(Colours(), "scannet20", unmapped="ignore").fingerprint(),
        Relabel(Colours(), "scannet200", unmapped="ignore").fingerprint(),
    ]
    assert len(set(marks)) == len(marks)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Tta("indoor"), "expected an operator in brackets, found 'indoor'"),
        (lambda: Tta(Colours(), scales=[]), "expected a list of numbers"),
        (lambda: Tta(Colours(), scales=[9]), "expected a list of numbers"),
        (lambda: Tta(Colours(), scales=True), "expected a list of numbers"),
        (lambda: Tta(Colours(), scales=[1, 1.0]), "one size twice"),
        (lambda: Tta(Colours(), flips="yes"), "expected true or false"),
        (lambda: Tta(InSpace(kind="scalar")), "depend on the camera"),
        (lambda: Ensemble(InSpace(kind="scalar"), InSpace(kind="scalar")), "moved between views"),
        (lambda: Ensemble(Colours()), "expected two or more"),
        (lambda: Ensemble(Colours(), Colours(kind="scalar")), "must all predict"),
        (lambda: Ensemble(Colours(kind="features"), Colours(kind="features")), "must all predict"),
        (lambda: Ensemble(Colours(), Colours(), weights=[1]), "expected 2 numbers"),
        (lambda: Ensemble(Colours(), Colours(), weights=[0, 0]), "not all 0"),
        (lambda: Ensemble(Colours(), Colours(), weights=[-1, 2]), "none negative"),
        (lambda: Ensemble(Colours(kind="image"), Colours(kind="image"), label_set="nyu40"), "no meaning"),
        (lambda: Relabel(Colours(kind="scalar"), "nyu40"), "predicts scalar, expected classes"),
        (lambda: Relabel(Colours(), "nyu"), "label set 'nyu' is not known"),
        (lambda: Relabel(Colours(), "voc21", unmapped="maybe"), "expected one of error, ignore"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make()


def test_scores_that_are_no_probabilities_are_refused(make_batch: Any) -> None:
    class Logits(Colours):
        def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            return super().decode(features, size).log()

    with pytest.raises(ContractError, match="expected none below 0"):
        Ensemble(Colours(), Logits()).encode(make_batch(SIZE))


HERE = f"{__name__}:Colours"


def test_a_spec_builds_all_of_it(make_batch: Any) -> None:
    spec = f"ensemble(tta({HERE}(; stride=4)), {HERE}(; stride=7, seed=2); weights=[3, 1])"
    by_hand = Ensemble(Tta(Colours(4)), Colours(7, 2), weights=[3, 1])
    built = build_operator(spec)
    assert built.fingerprint() == by_hand.fingerprint()
    assert torch.equal(predict(built, make_batch(SIZE)), predict(by_hand, make_batch(SIZE)))
    assert (
        build_operator(f"tta({HERE})", {"scales": [1, 2]}).fingerprint() == Tta(Colours(), scales=[1, 2]).fingerprint()
    )


@pytest.mark.parametrize(
    ("spec", "kwargs", "problem"),
    [
        ("tta(indor)", {}, "operator 'indor' is not known.*did you mean 'indoor'"),
        ("tta:indoor", {}, "expected an operator in brackets, found 'indoor'"),
        ("tta(; flips)", {}, "missing a required argument: 'operator'"),
        ("indoor(dino)", {}, "'indoor' is not made of other operators"),
        (f"tta({HERE}; flips)", {"flips": True}, "'flips' is given in the SPEC and in operator.kwargs"),
        (f"tta({HERE}; flip)", {}, "unexpected keyword argument 'flip'.*it takes: operator, flips, scales"),
        (f"tta({HERE}(; stride=0))", {}, "stride is 0"),
    ],
)
def test_a_spec_that_cannot_be_built_says_why(spec: str, kwargs: dict[str, Any], problem: str) -> None:
    with pytest.raises((ConfigError, OperatorError), match=problem):
        build_operator(spec, kwargs)


def test_predictions_from_files_cannot_be_mirrored(tmp_path: Any) -> None:
    from PIL import Image

    (tmp_path / "room").mkdir()
    Image.new("L", (4, 4), 1).save(tmp_path / "room" / "0.png")
    with pytest.raises(ConfigError, match="reads its predictions from files"):
        build_operator(
            f"tta(relabel(precomputed:{tmp_path}(; label_set=nyu40), nyu40))".replace(", nyu40)", ', "nyu40")')
        )
