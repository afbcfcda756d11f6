"""How predictions are compared, how sure an operator is, and how they are batched and packed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.agreement import changed_share, operator_confidence, similarity
from pipeline.loading import load_view
from pipeline.predicting import batches, class_ids, decode_view, encode_batch
from schemas.config import LiftConfig
from schemas.errors import ContractError

KINDS = ("features", "image", "scalar")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.sampled_from(KINDS), st.floats(0.01, 1e4))
def test_similarity_is_one_for_equals_lies_in_0_1_and_knows_no_scale(seed, kind, scale):
    generator = torch.Generator().manual_seed(seed)
    final, theirs = torch.randn(3, 8, generator=generator), torch.randn(4, 3, 8, generator=generator)
    found = similarity(theirs, final, kind)
    assert found.shape == (4, 8)
    assert (found >= -1e-6).all()
    assert (found <= 1).all()
    torch.testing.assert_close(similarity(final[None], final, kind), torch.ones(1, 8))
    torch.testing.assert_close(similarity(theirs * scale, final * scale, kind), found)
    torch.testing.assert_close(similarity(-final[None], final, kind), torch.zeros(1, 8))


def test_classes_agree_or_they_do_not():
    scores = torch.tensor([[0.9, 0.2, 0.0], [0.1, 0.8, 0.0]])[:, None]
    index = class_ids(scores)[None]
    assert index.tolist() == [[[0, 1, -1]]]
    others = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]])
    assert similarity(others, index.flatten(1), "classes").tolist() == [[1, 0, 0], [0, 1, 0]]


def test_the_operators_confidence_is_its_best_classs_probability():
    shares = torch.tensor([0.7, 0.2, 0.1])[:, None, None].expand(3, 2, 2)
    torch.testing.assert_close(operator_confidence(shares, "classes", (2, 2)), torch.full((2, 2), 0.7))
    logits = shares.log() + 5.0
    torch.testing.assert_close(operator_confidence(logits, "classes", (2, 2)), torch.full((2, 2), 0.7))
    for kind in KINDS:
        assert torch.equal(operator_confidence(shares, kind, (4, 5)), torch.ones(4, 5))


def test_the_changed_share_counts_pixels():
    raw, other = torch.zeros(1, 4, 5), torch.zeros(1, 4, 5)
    other[0, 0, :2] = 2
    assert changed_share(raw, other, "classes") == pytest.approx(0.1)
    assert changed_share(raw, raw, "classes") == 0.0
    assert changed_share(raw, other, "features") is None
    picture = torch.rand(3, 4, 5)
    assert changed_share(picture, picture + 0.001, "image") == 0.0
    assert changed_share(picture, 1 - picture, "image") > 0.8


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3), max_size=12), st.integers(1, 5))
def test_batches_keep_order_hold_one_size_and_are_as_full_as_they_can_be(sizes, most):
    class View:
        def __init__(self, size):
            self.image = np.zeros((size, 4, 3), np.uint8)

    views = [View(size) for size in sizes]
    found = list(batches(views, most))
    assert [view for batch in found for view in batch] == views
    assert all(1 <= len(batch) <= most and len({v.image.shape for v in batch}) == 1 for batch in found)
    for one, following in zip(found, found[1:], strict=False):
        assert len(one) == most or one[0].image.shape != following[0].image.shape


def test_class_ids_know_no_prediction_and_do_not_take_logits_for_one():
    assert class_ids(torch.zeros(3, 2, 2)).unique().tolist() == [-1]
    assert class_ids(torch.tensor([-2.0, 0.0, -1.0])[:, None, None]).tolist() == [[1]]


def _encode(operator, room, count=2, as_ids=False):
    views = [load_view(frame, LiftConfig(method="none")) for frame in room.scene.frames[:count]]
    images = [torch.from_numpy(view.image).permute(2, 0, 1).float() / 255 for view in views]
    return encode_batch(operator, views, images, room.scene.id, as_ids=as_ids)


def test_classes_are_kept_as_ids_where_they_are_to_be_lifted(sound_room, operators):
    class Hard(operators["classes"]):
        stride, share = 1, 1.0

        def encode(self, batch):
            scores = torch.zeros(len(batch.frames), 40, *batch.images.shape[-2:])
            scores[:, 3], scores[:, 3, :5] = self.share, 0
            return scores

    class Unsure(Hard):
        share = 0.9

    for encoded in [*_encode(Hard(), sound_room, as_ids=True), *_encode(Unsure(), sound_room, as_ids=True)]:
        assert encoded.features is None
        assert encoded.ids.unique().tolist() == [-1, 3]
        assert (encoded.ids[:5] == -1).all()
    for encoded in _encode(operators["classes"](), sound_room):
        assert encoded.ids is None


def test_decoding_is_checked(sound_room, operators):
    class Bright(operators["image"]):
        def decode(self, features, size):
            return super().decode(features, size) + 1

    features = _encode(operators["image"](), sound_room)[0].features
    assert decode_view(operators["image"](), features, (48, 64)).shape == (3, 48, 64)
    with pytest.raises(ContractError, match=r"expected \[0, 1\]"):
        decode_view(Bright(), features, (48, 64))


def test_operators_are_told_what_they_look_at(sound_room, operators):
    seen = []

    class Curious(operators["classes"]):
        def encode(self, batch):
            seen.append((batch.scene, batch.frames, [camera.height for camera in batch.cameras]))
            return super().encode(replace(batch))

    _encode(Curious(), sound_room)
    assert seen == [(sound_room.scene.id, ("0", "1"), [48, 48])]
