"""Clusters and prototypes: they find what is there, always the same, and say what is wrong with a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import avg_pool2d, normalize

from pipeline.operators.composed.nearest import Cluster, Prototypes, kmeans
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.grid import pad_to_stride
from pipeline.predicting import class_ids
from schemas.errors import ConfigError, OperatorError
from schemas.store import Kind

COLOURS = np.array([[230, 20, 20], [20, 220, 20], [20, 20, 210]], np.uint8)


class MeanColour:
    """Mean colours of 4 x 4 pixels."""

    name, stride, label_set = "mean colour", 4, None
    kind: Kind = "features"

    def encode(self, batch: Any) -> torch.Tensor:
        return avg_pool2d(pad_to_stride(batch.images, 4), 4)

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:  # noqa: ARG002
        return features

    def fingerprint(self) -> str:
        return "mean colour"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of three coloured stripes, the red one widest, with ids 5, 1 and 2."""
    stripes = np.repeat([0, 1, 2], [16, 8, 4])[None].repeat(12, 0)
    for name, turned in (("a", stripes), ("b", stripes[:, ::-1])):
        Image.fromarray(COLOURS[turned]).save(tmp_path / f"{name}.png")
        Image.fromarray(np.array([5, 1, 2], np.uint8)[turned]).save(tmp_path / f"{name}.ids.png")
    return tmp_path


def labels_of(operator: Any, make_batch: Any) -> list[int]:
    """The ids of a picture of three stripes: red, green, blue."""
    picture = torch.from_numpy(COLOURS[np.repeat([0, 1, 2], 8)]).T[None, :, None].float().div(255).expand(1, 3, 9, 24)
    batch = make_batch(picture)
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    scores = operator.decode(features, (9, 24))
    check_decoded(operator, scores, (9, 24), 1)
    best = class_ids(scores[0])[4, [3, 11, 20]]
    return [operator.label_set.ids[k] for k in best.tolist()]


def test_examples_give_their_labels(folder: Path, make_batch: Any) -> None:
    operator = Prototypes(MeanColour(), str(folder), label_set="nyu40")
    assert operator.label_set.names == ("wall", "floor", "chair")
    assert labels_of(operator, make_batch) == [5, 1, 2]


def test_clusters_are_numbered_by_size(folder: Path, make_batch: Any) -> None:
    operator = Cluster(MeanColour(), 3, images=str(folder))
    assert labels_of(operator, make_batch) == [1, 2, 3]


@pytest.mark.parametrize("change", ["picture", "k"])
def test_what_it_was_fitted_on_is_in_the_fingerprint(folder: Path, change: str) -> None:
    before = Cluster(MeanColour(), 3, images=str(folder))
    assert Cluster(MeanColour(), 3, images=str(folder)).fingerprint() == before.fingerprint()
    if change == "picture":
        Image.fromarray(COLOURS[np.zeros((12, 28), int)]).save(folder / "c.png")
    assert Cluster(MeanColour(), 3 - (change == "k"), images=str(folder)).fingerprint() != before.fingerprint()


def test_other_labels_are_other_prototypes(folder: Path) -> None:
    before = Prototypes(MeanColour(), str(folder), label_set="nyu40").fingerprint()
    Image.fromarray(np.full((12, 28), 7, np.uint8)).save(folder / "a.ids.png")
    assert Prototypes(MeanColour(), str(folder), label_set="nyu40").fingerprint() != before


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 5))
def test_clusters_do_not_depend_on_the_order_of_cells(seed: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    middles = normalize(torch.randn(k, 16, generator=random), dim=1)
    sizes = torch.arange(k, 0, -1) * 7
    cells = normalize(middles.repeat_interleave(sizes, 0) + 0.02 * torch.randn(int(sizes.sum()), 16, generator=random))
    shuffled = cells[torch.randperm(len(cells), generator=random)]
    torch.testing.assert_close(kmeans(shuffled, k), kmeans(cells, k), atol=1e-5, rtol=0)
    assert ((kmeans(cells, k) * middles).sum(1) > 0.99).all() or (middles @ middles.T - torch.eye(k)).max() > 0.8


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda f: Cluster(MeanColour(), 1, images=str(f)), "from 2 to 256"),
        (lambda f: Cluster(MeanColour(), 99, images=str(f)), "42 cells in the pictures, too few for 99"),
        (lambda f: Cluster(MeanColour(), 2, images=str(f / "none")), "no .jpg or .png pictures"),
        (lambda f: Prototypes(Cluster(MeanColour(), 2, images=str(f)), str(f), label_set="nyu40"), "expected features"),
        (lambda f: Prototypes(MeanColour(), str(f), label_set="voc20"), "label set 'voc20' is not known"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, make: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make(folder)


@pytest.mark.parametrize("damage", ["missing", "strange", "noise", "picture"])
def test_an_example_that_cannot_be_used_is_named(folder: Path, damage: str) -> None:
    file = folder / ("b.png" if damage == "picture" else "b.ids.png")
    if damage == "missing":
        file.unlink()
    elif damage == "strange":
        Image.fromarray(np.full((12, 28), 99, np.uint8)).save(file)
    else:
        file.write_bytes(b"noise")
    with pytest.raises(OperatorError, match=f"{file.name}.*a.jpg needs readable class ids"):
        Prototypes(MeanColour(), str(folder), label_set="nyu40")


def test_examples_of_one_class_are_too_few(folder: Path) -> None:
    for name in "ab":
        Image.fromarray(np.full((12, 28), 5, np.uint8)).save(folder / f"{name}.ids.png")
    with pytest.raises(ConfigError, match="show 1 class"):
        Prototypes(MeanColour(), str(folder), label_set="nyu40")
