"""The checkpoint that comes with the package: small, whole, what its card says, and used by default."""

import json
from pathlib import Path

import cv2
import pytest
import torch

from lift3d_model.checkpoint import SHIPPED, Checkpoint, digest, shipped_bytes
from lift3d_model.training.log import read_log
from lift3d_model.weighting import load_weighting
from pipeline.doctor import examine
from pipeline.lift_weights import load_weights
from schemas.config import LiftConfig

DATA = Path(__file__).parents[2] / "lift3d_model" / "data"


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((DATA / "lift3d.json").read_text(encoding="utf-8"))


def test_the_default_is_the_shipped_file_and_what_its_card_says(card: dict) -> None:
    content = shipped_bytes()
    assert content is not None
    assert content == (DATA / SHIPPED).read_bytes()
    assert len(content) < 5_000_000
    checkpoint, sha256 = load_weights(LiftConfig())
    assert sha256 == card["sha256"] == digest(content)
    assert checkpoint is not None
    for name, part in card["parts"].items():
        assert {key: list(tensor.shape) for key, tensor in checkpoint.group(name).items()} == part["tensors"]
    assert set(card["parts"]) == {name.partition(".")[0] for name in Checkpoint.from_bytes(content).tensors}


def test_nothing_is_kept_that_is_worse_than_untrained_on_held_out_views(card: dict) -> None:
    assert card["parts"]["weighting"]["held_out"]["kept"]
    for part in (part for part in card["parts"].values() if "held_out" in part):
        before, kept = (part["held_out"][when] for when in ("untrained", "kept"))
        assert all(kept[name] <= before[name] for name in kept if name.partition(":")[0] == "score")


def test_learned_curves_prefer_what_is_seen_alike() -> None:
    tables = load_weighting(Checkpoint.from_bytes((DATA / SHIPPED).read_bytes()).group("weighting"))
    assert tables is not None
    for regime in ("certain", "uncertain", "novel"):
        straight, oblique = tables(f"{regime}_turn", torch.tensor([0.01, 0.4])).tolist()
        assert straight > 0 > oblique


def test_log_and_picture_are_there(card: dict) -> None:
    rows = read_log(DATA / "lift3d.csv")
    assert "weighting" in {figure.partition(".")[0] for _, _, figure, _ in rows} <= set(card["parts"])
    assert {part for _, part, _, _ in rows} == {"train", "dev", "kept"}
    picture = cv2.imread(str(DATA / "lift3d.png"))
    assert picture is not None and picture.std() > 10


def test_the_doctor_names_it(card: dict) -> None:
    (check,) = [check for check in examine() if check.name == "lift weights"]
    assert check.status == "ok"
    assert card["sha256"][:12] in check.found
