"""The state of a training run as one safetensors file: weights, optimizer, random numbers, step. Resuming is exact."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import AdamW

from lift3d_model.checkpoint import CheckpointError, read_tensors, write_tensors

STATE = "state.safetensors"


@dataclass
class Progress:
    """What a run has reached.

    Attributes:
        step: steps done.
        best: lowest value so far of each validation score, and best_step: after how many steps.
    """

    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_step: dict[str, int] = field(default_factory=dict)


def save_state(path: Path, module: nn.Module, optimizer: AdamW, rng: Generator, progress: Progress) -> None:
    """Write the state whole or not at all."""
    tensors: dict[str, Tensor] = {f"module.{name}": value for name, value in module.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in entries.items()}
    tensors["rng"] = rng.get_state()
    write_whole(path, write_tensors(tensors, {"progress": json.dumps(progress.__dict__)}))


def load_state(path: Path, module: nn.Module, optimizer: AdamW, rng: Generator) -> Progress:
    """Take up the state of a file; a new run's where there is none. Raises `CheckpointError` for another run's file."""
    if not path.exists():
        return Progress()
    tensors, metadata = read_tensors(path.read_bytes())
    weights = {key.removeprefix("module."): value for key, value in tensors.items() if key.startswith("module.")}
    try:
        module.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_state(tensors)})
        rng.set_state(tensors["rng"])
        return Progress(**json.loads(metadata["progress"]))
    except (RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: expected the state of this training run, found another: {error}") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part == "optimizer":
            index, _, entry = rest.partition(".")
            state.setdefault(int(index), {})[entry] = value
    return state
