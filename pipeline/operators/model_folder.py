"""Folders that hold a model as transformers and diffusers save one: found, read and loaded without running their code.

A folder is the one named, the hub's local cache where that is complete, or a download. Weights are read from
safetensors only, complete or not at all.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.operators.weights import LOAD_ERRORS, summary
from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor

PASSING = ("transformers_version", "torch_dtype", "dtype")
"""Keys of a config that say who wrote it, not what the network computes."""
LIBRARIES = ("diffusers", "transformers")


def model_folder(
    name: str, asking: str, fetch: Callable[[bool], Path], is_complete: Callable[[Path], bool], remedy: str
) -> Path:
    """The folder of the model `name`: a local one, or `owner/name` on the hub.

    Args:
        asking: the operator, for messages; `remedy`: what to do where there is none.
        fetch: the hub's snapshot, from its local cache alone where it is called with True.
        is_complete: whether a folder of the cache holds all that is needed.

    Raises MissingWeightsError.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise MissingWeightsError(
            f"{asking}: there is no folder {name}, and it is no hub id (owner/name)", remedy=remedy
        )
    try:
        cached = fetch(True)
        if is_complete(cached):
            return cached
    except (*LOAD_ERRORS, ValueError):
        pass  # not in the cache, or not wholly
    try:
        return fetch(False)
    except (*LOAD_ERRORS, ValueError) as error:
        raise MissingWeightsError(f"{asking}: cannot load {name}: {summary(error)}", remedy=remedy) from error


def read_config(path: Path, private: bool = False) -> dict[str, Any]:
    """A JSON object; without `private`, only the keys that decide what a network computes. Raises ValueError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return {key: value for key, value in content.items() if private or (key[0] != "_" and key not in PASSING)}


def load_network(factory: Any, folder: Path, idle: Sequence[str] = (), **options: Any) -> Any:
    """A network with every weight from the file. Raises ValueError where the file lacks some: they would be random.

    Args:
        factory: class of transformers or diffusers.
        idle: beginnings of names of tensors that the network has and never uses: set to zero where the file lacks them.
        options: more arguments of `from_pretrained`.
    """
    network, info = factory.from_pretrained(
        str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    absent = sorted(map(str, {*info["missing_keys"], *info["mismatched_keys"]}))
    lacking = [name for name in absent if not name.startswith(tuple(idle))]
    if lacking:
        raise ValueError(f"{folder.name} lacks weights of {len(lacking)} tensors, {lacking[0]} for one")
    network = network.eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if name in absent:
            tensor.zero_()
    return network


def hashable(tensor: Tensor) -> Tensor:
    """The tensor in a type that numpy has."""
    import torch

    return tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor


@contextmanager
def quiet() -> Iterator[None]:
    """Without the loaded libraries' progress bars, notes and warnings; their settings are put back afterwards."""
    modules = [import_module(f"{library}.utils.logging") for library in LIBRARIES if library in sys.modules]
    before = [(module, module.get_verbosity(), module.is_progress_bar_enabled()) for module in modules]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module, _, _ in before:
            module.set_verbosity(module.CRITICAL)
            module.disable_progress_bar()
        try:
            yield
        finally:
            for module, verbosity, bars in before:
                module.set_verbosity(verbosity)
                if bars:
                    module.enable_progress_bar()
