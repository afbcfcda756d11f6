"""torchvision models by NAME[/WEIGHTS]: weights by torchvision's own names or from a file, never random ones."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.weights import LOAD_ERRORS, summary
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

HEADS = ("classifier", "fc", "head", "heads")
"""Modules that end with the layer whose rows are classes."""
TWO_HEADED = "classifier.low_classifier.weight"
"""One of the two last layers of LR-ASPP."""
REMEDY = "pip install 'lift3d-labeling[torchvision]'"


def split(spec: str) -> tuple[str, str]:
    """NAME and WEIGHTS of a SPEC; the latter is DEFAULT where it is left out."""
    name, _, weights = spec.partition("/")
    return name, weights or "DEFAULT"


def published(name: str) -> Any:
    """torchvision's enum of a model's weights. Raises UnknownNameError, or MissingWeightsError without torchvision."""
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingWeightsError(f"torchvision cannot be used: {error}", remedy=REMEDY) from error
    known = models.list_models()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise UnknownNameError(f"torchvision has no model {name!r}", remedy=f"did you mean {nearest[0]!r}?")
    return models.get_model_weights(name)


def load_tensors(name: str, weights: str) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Tensors, and the names of their classes where they are weights that torchvision publishes.

    Raises MissingWeightsError or UnknownNameError.
    """
    choices = published(name)
    file = Path(weights).expanduser()
    try:
        if "/" in weights or file.is_file():
            return _read(file), _categories(choices, file)
        if weights not in choices.__members__:
            names = ", ".join(choices.__members__) or "none"
            raise UnknownNameError(
                f"torchvision:{name} has no weights {weights!r}", remedy=f"it has {names}; or name a file"
            )
        chosen = choices[weights]
        return chosen.get_state_dict(check_hash=True, weights_only=True), tuple(chosen.meta["categories"])
    except (*LOAD_ERRORS, ValueError) as error:
        raise MissingWeightsError(
            f"torchvision:{name}: cannot load {weights}: {summary(error)}", remedy=_offline(name, choices, weights)
        ) from error


def load_network(name: str, weights: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with these tensors, all of them and no others, in eval mode. Raises MissingWeightsError."""
    from torchvision import models

    options: dict[str, Any] = {"weights": None, "num_classes": classes_of(name, tensors)}
    if name in models.list_models(module=models.segmentation):
        options |= {"weights_backbone": None}
        if not name.startswith("lraspp"):
            options["aux_loss"] = any(key.startswith("aux_classifier.") for key in tensors)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": any(key.lower().startswith("aux") for key in tensors), "init_weights": False}
    try:
        network: nn.Module = models.get_model(name, **options)
        network.load_state_dict(tensors)
    except LOAD_ERRORS as error:
        raise MissingWeightsError(
            f"torchvision:{name}: cannot load {weights}: {summary(error)}", remedy="name weights of this very model"
        ) from error
    return network.eval().requires_grad_(False)


def classes_of(name: str, tensors: Mapping[str, Tensor]) -> int:
    """Rows of the last layer. Raises ConfigError where there is none."""
    keys = [key for key in tensors if key.split(".")[0] in HEADS and key.endswith(".weight") and tensors[key].dim() > 1]
    if not keys:
        raise ConfigError(f"torchvision:{name}: the file holds no network", remedy="name a state dict of this model")
    return len(tensors[TWO_HEADED if TWO_HEADED in keys else max(keys)])


def _read(file: Path) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    tensors: Any = (
        load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    )
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError("expected a state dict: names and tensors")
    return tensors


def _categories(choices: Any, file: Path) -> tuple[str, ...] | None:
    """Class names of a file that torchvision publishes, known by the digest that its own name ends with."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for choice in choices:
        stem = Path(choice.url).stem.rpartition("-")[2]
        if len(stem) >= 8 and digest.startswith(stem):
            return tuple(choice.meta["categories"])
    return None


def _offline(name: str, choices: Any, weights: str) -> str:
    if weights not in choices.__members__:
        return "name a file of weights (safetensors, or a state dict that torch saved) or one of torchvision's names"
    return (
        f"without internet: download {choices[weights].url} elsewhere and name the file, torchvision:{name}//path/to/it"
    )
