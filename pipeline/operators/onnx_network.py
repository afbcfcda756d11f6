"""`onnx:PATH`: any network in ONNX form, with a card beside it that says what goes in and what comes out."""

from __future__ import annotations

import hashlib
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.operators.class_channels import channel_classes
from pipeline.operators.grid import grid_size, upsample
from pipeline.operators.letterbox import Letterbox
from pipeline.operators.licences import Weights
from pipeline.operators.onnx_card import OnnxCard, read_card
from pipeline.operators.onnx_session import open_session, pick, runtime_errors
from pipeline.operators.pixels import brought_file, file_digest
from pipeline.operators.weights import summary
from schemas.errors import ConfigError, FrameError, OperatorError, Reason
from schemas.label_sets import LabelSet

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
TRIAL = (96, 160)
"""Height and width of the image that a network is tried on, at least, where it takes any size."""


class OnnxNetwork:
    """What a network predicts of images that are padded to the sizes it takes, image by image.

    Args:
        file: the model.
        card: of it.
        device: torch device; onnxruntime uses a GPU where it has one.
    """

    name = "onnx"

    def __init__(self, file: Path, card: OnnxCard, device: str) -> None:
        self._session, files = open_session(file, device)
        self._weights = Weights(f"onnx:{file.name}", card.license)
        self._card, self.kind, self.stride = card, card.output.kind, card.output.stride
        self._input = pick("input", card.input.name, self._session.get_inputs())
        self._output = pick("output", card.output.name, self._session.get_outputs())
        _check_input(self._input, card, len(self._session.get_inputs()))
        self.label_set: LabelSet | None = self._tried()
        card_told = card.model_dump_json(exclude={"license"})
        told = f"{file_digest(*files)} {card_told} {self.label_set and self.label_set.model_dump_json()}"
        self._told = hashlib.sha256(told.encode()).hexdigest()

    def weights_info(self) -> tuple[Weights, ...]:
        """The file, and the licence that its card states."""
        return (self._weights,)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Maps [B, C, ceil(H / stride), ceil(W / stride)]; of ids, one-hot."""
        import torch

        maps = []
        for image, frame in zip(batch.images, batch.frames, strict=True):
            found = self._map(image)
            if self._card.output.what == "ids":
                found = self._one_hot(found, batch.scene, frame)
            maps.append(found)
        return torch.stack(maps).to(batch.images.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Class probabilities, colours or values at image size; features as they are."""
        if self.kind == "features":
            return features
        full = upsample(features, self.stride, size)
        if self._card.output.what == "logits":
            return full.softmax(dim=1)
        return full.clamp(0, 1) if self.kind == "image" else full

    def fingerprint(self) -> str:
        """The model's files and its card."""
        return f"onnx:{VERSION}:{self._told}"

    def _map(self, image: Tensor) -> Tensor:
        """Image [3, H, W] -> [C, h, w] on the exact grid."""
        import torch
        from torch.nn.functional import pad

        height, width = image.shape[-2:]
        sides = self._taken(height, width)
        padded = pad(image[None], (0, sides[1] - width, 0, sides[0] - height), mode="replicate")
        (found,) = self._session.run([self._output.name], {self._input.name: self._prepared(padded)})
        maps = torch.from_numpy(self._channels_first(found))
        h, w = grid_size((height, width), self.stride)
        whole = grid_size(sides, self.stride)
        if maps.shape[-2:] != whole:
            raise ConfigError(
                f"onnx: output {self._output.name!r} is {list(found.shape)} for an image of {sides[0]} x {sides[1]} "
                f"px, expected {whole[0]} x {whole[1]} cells",
                remedy="set output.stride and output.layout",
            )
        return maps[:, :h, :w]

    def _taken(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image is padded to."""
        if self._card.fixed:
            return self._card.fixed
        multiple = self._card.multiple
        return ceil(height / multiple) * multiple, ceil(width / multiple) * multiple

    def _prepared(self, image: Tensor) -> Any:
        """Image [1, 3, H, W] in [0, 1] -> what the input takes."""
        card = self._card.input
        ordered = image if card.channels == "rgb" else image.flip(1)
        mean, std = (ordered.new_tensor(values)[:, None, None] for values in (card.mean, card.std))
        values = ((ordered * card.scale - mean) / std).cpu().numpy()
        if card.layout == "NHWC":
            values = values.transpose(0, 2, 3, 1)
        kind = TYPES[self._input.type]
        whole = np.round(values).clip(0, 255) if kind is np.uint8 else values
        return np.ascontiguousarray(whole.astype(kind))

    def _channels_first(self, found: Any) -> Any:
        """Output -> float or integer [C, h, w]."""
        card = self._card.output
        if found.ndim == 3 and card.what in ("ids", "scalar"):
            found = found[:, None] if card.layout == "NCHW" else found[..., None]
        if found.ndim != 4 or found.shape[0] != 1:
            raise ConfigError(
                f"onnx: output {self._output.name!r} is {list(found.shape)}, expected [1, C, h, w] or [1, h, w, C]",
                remedy="export it for one image, with output.name set to a map",
            )
        first = found[0] if card.layout == "NCHW" else found[0].transpose(2, 0, 1)
        if card.what == "ids":
            return np.ascontiguousarray(first).astype(np.int64)
        return np.ascontiguousarray(first).astype(np.float32) * np.float32(card.scale)

    def _one_hot(self, ids: Tensor, scene: str, frame: str) -> Tensor:
        """Ids [1, h, w] -> [K, h, w]; the ignore id is in no class. Raises FrameError for ids that are no class."""
        import torch

        assert self.label_set is not None
        classes, ignored = self.label_set.ids, self.label_set.ignore_id
        given = ids + (1 if self._card.output.names else self._card.output.id_offset)
        table = torch.tensor(classes)[:, None, None]
        unknown = set(given.unique().tolist()) - {*classes, ignored}
        if unknown:
            raise FrameError(
                Reason.OPERATOR_FAILED,
                f"onnx: id {min(unknown)} is no class of {self.label_set.name!r}",
                scene=scene,
                frame=frame,
                remedy="set output.label_set and output.id_offset, or names",
            )
        return (given == table).float()

    def _tried(self) -> LabelSet | None:
        """Run once, so that what does not fit is found at the start; returns what the channels mean."""
        import torch

        height, width = self._taken(*TRIAL)
        try:
            channels = len(self._map(torch.full((3, height, width), 0.5)))
        except runtime_errors() as error:
            raise OperatorError(
                f"onnx: the model does not take an image of {height} x {width} px: {summary(error)}",
                remedy="set size.multiple_of, or size.height and size.width",
            ) from error
        output = self._card.output
        expected = {"image": 3, "scalar": 1, "ids": 1}.get(output.what, channels)
        if channels != expected:
            raise ConfigError(
                f"onnx: {output.what} with {channels} channels, expected {expected}", remedy="output.what"
            )
        if output.what == "ids":
            count = len(output.names) if output.names else None
            return channel_classes("onnx", count, output.label_set, output.names)
        return channel_classes("onnx", channels, output.label_set, output.names) if self.kind == "classes" else None


def onnx_operator(path: str, *, device: str = "cpu") -> OnnxNetwork | Letterbox:
    """The operator `onnx:PATH`; models of one image size are shown letterboxed or stretched images.

    Args:
        path: the .onnx file, with its card beside it (PATH with .json or .yaml instead of .onnx).
        device: torch device.

    Raises MissingWeightsError, ConfigError that names the card's field, or OperatorError.
    """
    file = brought_file(path, "onnx")
    card = read_card(file)
    network = OnnxNetwork(file, card, device)
    return Letterbox(network, side=card.fixed, policy=card.size.fit) if card.fixed else network


def _check_input(node: Any, card: OnnxCard, inputs: int) -> None:
    """Raise ConfigError where the input cannot be given what the card says."""
    if inputs != 1:
        raise ConfigError(f"onnx: the model has {inputs} inputs, expected one image", remedy="export it with one")
    if node.type not in TYPES:
        raise ConfigError(f"onnx: input {node.name!r} is {node.type}, expected one of {', '.join(TYPES)}")
    shape = list(node.shape)
    sides = shape[2:] if card.input.layout == "NCHW" else shape[1:3]
    if len(shape) != 4 or not _may_be_rgb(shape, card):
        raise ConfigError(
            f"onnx: input {node.name!r} is {shape}, expected an RGB image in layout {card.input.layout}",
            remedy="set input.layout",
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ConfigError(f"onnx: input {node.name!r} is {shape}, expected one image", remedy="export it for one")
    only = tuple(side if isinstance(side, int) else None for side in sides)
    if any(only) and (card.fixed is None or any(a not in (None, b) for a, b in zip(only, card.fixed, strict=True))):
        raise ConfigError(
            f"onnx: input {node.name!r} is {shape}, one size only, and size is {card.fixed or 'free'}",
            remedy="set size.height and size.width to it",
        )


def _may_be_rgb(shape: list[Any], card: OnnxCard) -> bool:
    """Whether the axis of channels has three, or says nothing while the other one that may be it has not three."""
    channels, other = (shape[1], shape[3]) if card.input.layout == "NCHW" else (shape[3], shape[1])
    return channels == 3 or (not isinstance(channels, int) and other != 3)
