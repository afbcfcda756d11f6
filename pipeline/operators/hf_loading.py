"""A transformers model from a folder or the hub, with what it takes to run it: network, preprocessing and tokens.

Networks are loaded by classes that are named in a table, weights from safetensors only, complete or not at all; code
that a repository brings is never run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.hf_images import Seeing, read_seeing
from pipeline.operators.hf_networks import FAMILIES, Family
from pipeline.operators.model_folder import hashable, load_network, model_folder, quiet, read_config
from pipeline.operators.weights import LOAD_ERRORS, summary, tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "pip install 'lift3d-labeling[hf]'"
OFFLINE = (
    "without internet: download the model elsewhere and name its folder, hf:/path, with config.json, "
    "preprocessor_config.json and model.safetensors (and its tokenizer's files, where it takes texts)"
)
WANTED = ("*.json", "*.safetensors", "merges.txt", "vocab.txt", "README.md")
"""Files of a repository that are asked for: no pickles, no code."""
TASK = "the task is semantic"


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model.

    Attributes:
        family: what kind of network it is.
        network: in evaluation mode on its device.
        seeing: how it wants images.
        folder: where it is.
        digest: of weights, config and preprocessing.
    """

    family: Family
    network: Any
    seeing: Seeing
    folder: Path
    digest: str

    @property
    def cell(self) -> int:
        """Pixels that image sides must be multiples of."""
        patch = getattr(self.network.config, "patch_size", 1)
        return max(self.family.cell, patch if isinstance(patch, int) else 1)

    @property
    def side(self) -> int | None:
        """Pixels of the only square that the network takes; None where it takes any size."""
        if not self.family.square:
            return None
        given = getattr(self.network.config, "image_size", None)
        return int(given) if isinstance(given, int) else max(self.seeing.stretched or (224, 224))


def load_model(name: str, size: int | None, device: str) -> Model:
    """The model that a folder or a hub id names.

    Args:
        name: a folder, or `owner/name` on the hub, whose local cache is used where it is complete.
        size: see `read_seeing`.
        device: torch device.

    Raises MissingWeightsError (a package, a file or a tensor is missing or damaged) or ConfigError (no model that is
    supported).
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingWeightsError(f"hf needs transformers: {error}", remedy=PACKAGE) from None
    folder = model_folder(name, "hf", lambda cached: _from_hub(name, cached), _is_complete, OFFLINE)
    family = _family(_config(folder, name), name)
    seeing = read_seeing(folder, size)
    try:
        with quiet():
            factory = getattr(transformers, family.network)
            network = load_network(factory, folder, family.idle, dtype=_float32(), **family.options)
    except ImportError as error:
        raise MissingWeightsError(
            f"hf: {name} needs a package: {summary(error)}", remedy="install that package"
        ) from None
    except (*LOAD_ERRORS, ValueError, TypeError, AttributeError) as error:
        raise MissingWeightsError(f"hf: cannot load {name}: {summary(error)}", remedy=OFFLINE) from error
    weights = tensors_sha256({key: hashable(tensor) for key, tensor in network.state_dict().items()})
    told = json.dumps([read_config(folder / "config.json"), seeing.model_dump()], sort_keys=True)
    return Model(family, network.to(device), seeing, folder, f"{family.network}:{weights}:{told}")


def tokens(model: Model, texts: Sequence[str], length: int | None, device: str) -> dict[str, Tensor]:
    """Ids and masks of texts, padded to the longest one or to `length`. Raises MissingWeightsError."""
    from transformers import CLIPTokenizer

    try:
        with quiet():
            tokenizer = CLIPTokenizer.from_pretrained(str(model.folder), local_files_only=True)
            padding = "longest" if length is None else "max_length"
            found = tokenizer(list(texts), padding=padding, max_length=length, truncation=True, return_tensors="pt")
    except (*LOAD_ERRORS, ValueError, TypeError) as error:
        raise MissingWeightsError(
            f"hf: the tokenizer of {model.folder.name} cannot be loaded: {summary(error)}", remedy=OFFLINE
        ) from error
    return {key: found[key].to(device) for key in ("input_ids", "attention_mask")}


def task_tokens(model: Model, device: str) -> dict[str, Tensor]:
    """What tells OneFormer that classes of pixels are asked for."""
    found = tokens(model, [TASK], int(model.network.config.task_seq_len), device)
    return {"task_inputs": found["input_ids"] * found["attention_mask"]}


def _from_hub(name: str, cached: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(WANTED), local_files_only=cached))


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = read_config(folder / "config.json", private=True)
    except (OSError, ValueError) as error:
        raise MissingWeightsError(f"hf: {name} has no config.json: {summary(error)}", remedy=OFFLINE) from error
    if not any(folder.glob("*.safetensors")):
        raise MissingWeightsError(
            f"hf: {name} has no safetensors (pickles are not loaded)",
            remedy="save it again with save_pretrained(..., safe_serialization=True)",
        )
    return config


def _family(config: dict[str, Any], name: str) -> Family:
    found = config.get("architectures")
    named = [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
    for architecture in named:
        if architecture in FAMILIES:
            return FAMILIES[architecture]
    raise ConfigError(
        f"hf: {name} is a {', '.join(named) or config.get('model_type')!r:.120}, which is not supported",
        remedy=f"supported are {', '.join(FAMILIES)}; wrap another model as a class of your own (docs/operators.md)",
    )


def _float32() -> Any:
    import torch

    return torch.float32
