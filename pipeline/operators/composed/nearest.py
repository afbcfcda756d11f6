"""`cluster(SPEC, K; images=DIR)` and `prototypes(SPEC, DIR; label_set=NAME)`: classes by the nearest of known features.

What is nearest is found before the run, from a folder of pictures that the user chose, so a label depends on its views,
on that folder and on nothing else: not on chunks, not on workers, not on which frames a run has seen.
"""

from __future__ import annotations

import colorsys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.assets import decode_ids, decode_image, read_size
from pipeline.operators.composed.members import check_members, check_seen, fingerprint
from pipeline.operators.grid import upsample
from pipeline.protocols import Operator
from schemas.camera import Camera
from schemas.errors import ConfigError, FrameError, OperatorError
from schemas.label_sets import LabelSet
from schemas.label_sets import label_set as built_in
from schemas.scene import Asset, FrameBatch
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
"""Version of what is fitted and decoded; part of the fingerprint."""
PICTURES = (".jpg", ".jpeg", ".png")
IDS = ".ids.png"
MOST = 32
"""Pictures that are looked at, evenly spaced in the order of their names."""
ROUNDS = 25
SHARPNESS = 20.0
"""How fast a score falls with the angle; which class is nearest does not depend on it."""


class Cluster:
    """Classes that nobody named: k-means over the directions of features.

    Args:
        operator: of kind features.
        k: clusters, 2 to 256.
        images: folder of pictures that the clusters are found in; at most 32 of them are looked at.
        device: torch device.

    Clusters start at the features that are farthest from each other and are numbered by size, so the same pictures
    always give the same clusters.
    """

    takes_operators = True
    name = "cluster"
    kind: Kind = "classes"

    def __init__(self, operator: Operator, k: int, *, images: str, device: str = "cpu") -> None:
        if type(k) is not int or not 2 <= k <= 256:
            raise ConfigError(f"cluster: k is {k!r:.80}, expected a whole number from 2 to 256")
        _check(self.name, operator)
        self.operator, self.stride, self._k = operator, operator.stride, k
        self.members = (operator,)
        files = pictures(self.name, images)
        self.label_set = _clusters(k)
        self._told = digest(files)
        self._centres = kmeans(_all_cells(operator, files, device), k)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """As the operator encodes."""
        return self.operator.encode(batch)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features [B, C, h, w] -> probabilities [B, K, H, W]."""
        return upsample(nearest(features, self._centres), self.stride, size)

    def fingerprint(self) -> str:
        """The operator's, the pictures' and the number of clusters."""
        return fingerprint(self.name, VERSION, [self.operator], k=self._k, pictures=self._told)


class Prototypes:
    """Classes by a few labelled pictures: the mean direction of each class's features.

    Args:
        operator: of kind features.
        examples: folder of pictures, each with its class ids beside it: a.jpg and a.ids.png (8 or 16 bits, same size).
        label_set: name of the label set of the ids. The result has those of its classes that the examples show.
        device: torch device.
    """

    takes_operators = True
    name = "prototypes"
    kind: Kind = "classes"

    def __init__(self, operator: Operator, examples: str, *, label_set: str, device: str = "cpu") -> None:
        _check(self.name, operator)
        self.operator, self.stride = operator, operator.stride
        self.members = (operator,)
        files = pictures(self.name, examples)
        owners = [file.with_name(file.stem + IDS) for file in files]
        self._told = digest([*files, *owners])
        self.label_set, self._centres = _class_means(operator, files, owners, built_in(label_set), device)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """As the operator encodes."""
        return self.operator.encode(batch)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features [B, C, h, w] -> probabilities [B, K, H, W]."""
        return upsample(nearest(features, self._centres), self.stride, size)

    def fingerprint(self) -> str:
        """The operator's, and the examples'."""
        labels = self.label_set.model_dump_json()
        return fingerprint(self.name, VERSION, [self.operator], examples=self._told, labels=labels)


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """features [B, C, h, w], unit centres [K, C] -> [B, K, h, w]: softmax of cosines."""
    import torch
    from torch.nn.functional import normalize

    return (SHARPNESS * torch.einsum("kc,bchw->bkhw", centres, normalize(features.float(), dim=1))).softmax(1)


def kmeans(cells: Tensor, k: int) -> Tensor:
    """Unit vectors [N, C] -> unit centres [k, C], largest cluster first. Raises `ConfigError` where N < k.

    Spherical k-means (Dhillon and Modha 2001) from farthest-point starts (Gonzalez 1985): nothing is random.
    """
    import torch
    from torch.nn.functional import normalize

    if len(cells) < k:
        raise ConfigError(f"cluster: {len(cells)} cells in the pictures, too few for {k} clusters")
    chosen = [int((cells @ cells.mean(0)).argmax())]
    closest = cells @ cells[chosen[0]]
    for _ in range(k - 1):
        chosen.append(int(closest.argmin()))
        closest = torch.maximum(closest, cells @ cells[chosen[-1]])
    centres = cells[chosen]
    for _ in range(ROUNDS):
        owner = (cells @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, owner, cells)
        empty = sums.norm(dim=1, keepdim=True) < 1e-6
        centres = torch.where(empty, centres, normalize(sums, dim=1))
    sizes = (cells @ centres.T).argmax(1).bincount(minlength=k)
    return centres[sizes.argsort(descending=True, stable=True)]


def pictures(name: str, folder: object) -> list[Path]:
    """At most 32 pictures of a folder, evenly spaced by name. Raises `ConfigError` where there are none."""
    found = sorted(Path(folder).iterdir()) if isinstance(folder, str) and Path(folder).is_dir() else []
    files = [file for file in found if file.suffix.lower() in PICTURES and not file.name.endswith(IDS)]
    if not files:
        raise ConfigError(
            f"{name}: no .jpg or .png pictures in {folder!r:.200}", remedy="name a folder of this machine"
        )
    return [files[n * len(files) // min(MOST, len(files))] for n in range(min(MOST, len(files)))]


def digest(files: list[Path]) -> str:
    """Of the files' contents, in their order."""
    return sha256("".join(sha256(_bytes(file)).hexdigest() for file in files).encode()).hexdigest()


def _clusters(k: int) -> LabelSet:
    """Classes 1..k, with colours whose hues are far apart; 0 is "no label"."""
    hues = [colorsys.hsv_to_rgb(n * 0.618034 % 1, 0.65, 0.95) for n in range(k)]
    colors = tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)
    names = tuple(f"cluster {n + 1}" for n in range(k))
    return LabelSet(name="clusters", ids=tuple(range(1, k + 1)), names=names, colors=colors, ignore_id=0)


def _check(name: str, operator: Operator) -> None:
    check_members(name, [operator])
    check_seen(name, operator, "of frames of its own")
    if operator.kind != "features":
        raise ConfigError(f"{name}: {operator.name!r} predicts {operator.kind}, expected features", remedy="use dino")


def _all_cells(operator: Operator, files: list[Path], device: str) -> Tensor:
    import torch

    return torch.cat([_cells(operator, file, device).flatten(1).T for file in files])


def _cells(operator: Operator, file: Path, device: str) -> Tensor:
    """Unit features [C, h, w] of a picture."""
    import torch
    from torch.nn.functional import normalize

    asset = Asset(str(file))
    try:
        height, width = read_size(asset)
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        camera = Camera(K, np.eye(4), height, width)
        picture = decode_image(asset, camera)
    except FrameError as error:
        _refuse(file, error.message)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float().div(255).to(device)
    batch = FrameBatch(image, "pictures", (file.name,), (camera,))
    return normalize(operator.encode(batch)[0].float(), dim=0)


def _class_means(
    operator: Operator, files: list[Path], owners: list[Path], labels: LabelSet, device: str
) -> tuple[LabelSet, Tensor]:
    """The classes that the examples show, and their mean directions [K, C]."""
    import torch
    from torch.nn.functional import normalize

    vectors, ids = [], []
    for file, owner in zip(files, owners, strict=True):
        cells = _cells(operator, file, device)
        vectors.append(cells.flatten(1).T)
        ids.append(torch.from_numpy(_ids_of_cells(owner, labels, tuple(cells.shape[-2:]), operator.stride)).flatten())
    cells, found = torch.cat(vectors), torch.cat(ids).to(device)
    shown = tuple(i for i in labels.ids if bool((found == i).any()))
    if len(shown) < 2:
        raise ConfigError(
            f"prototypes: the examples show {len(shown)} class(es) of {labels.name!r}, expected 2 or more"
        )
    means = torch.stack([cells[found == i].mean(0) for i in shown])
    return labels.subset(shown, f"{labels.name}-{len(shown)}"), normalize(means, dim=1)


def _ids_of_cells(file: Path, labels: LabelSet, grid: tuple[int, ...], stride: int) -> NDArray[np.int64]:
    """[h, w] class ids at the centres of cells."""
    try:
        ids = decode_ids(Asset(str(file))).astype(np.int64)
    except FrameError as error:
        _refuse(file, error.message)
    strangers = sorted(set(np.unique(ids).tolist()) - {*labels.ids, labels.ignore_id})
    if strangers:
        _refuse(file, f"ids {strangers[:8]} are not in label set {labels.name!r}")
    rows, columns = (
        np.minimum(((np.arange(cells) + 0.5) * stride).astype(int), side - 1)
        for cells, side in zip(grid, ids.shape, strict=True)
    )
    found: NDArray[np.int64] = ids[np.ix_(rows, columns)]
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        _refuse(file, str(error.strerror))


def _refuse(file: Path, problem: str) -> NoReturn:
    raise OperatorError(
        f"example {file}: {problem}", remedy="every picture a.jpg needs readable class ids a.ids.png of the same size"
    )
