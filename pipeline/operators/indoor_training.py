"""How the head of the `indoor` operator is trained and measured; `jobs/train_indoor.py` runs it.

Rendered rooms are the only data, so photos are another domain: augmentation swaps paint, light and camera. The frozen
backbone encodes each view once; the head then trains on cached cells in a minute on one core.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.operators.indoor import Indoor, centred, classify, project
from pipeline.operators.indoor_cells import Cells, View, collect, list_views, read_view
from pipeline.operators.vit import load_vit
from pipeline.operators.weights import tensors_sha256
from schemas.errors import DatasetError
from schemas.label_sets import LabelSet
from schemas.scene import FrameBatch

if TYPE_CHECKING:
    from torch import Tensor

CLASS_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 24, 35, 40)
"""NYU40 ids with at least 0.5 % of the training rooms' pixels, in at least six rooms."""
BLOCKS = (5, 7, 9, 11)
"""Backbone blocks whose features are concatenated."""
CHANNELS = 96
"""Channels that are lifted."""
HELD_OUT = 4
"""Scenes, the last ones by name, that training never sees."""
DROPOUT = 0.4
EPOCHS = 12
BATCH = 2048
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05


def train(rooms: str, out: Path) -> Path:
    """Train on the rooms at `rooms` but the last four, write head, card and cached cells to `out`; return the card."""
    views = list_views(rooms)
    scenes = sorted({view.scene for view in views})
    if len(scenes) <= HELD_OUT:
        raise DatasetError(f"{rooms} has {len(scenes)} scenes", remedy=f"training needs more than {HELD_OUT}")
    chosen = scenes[:-HELD_OUT]
    members = [view for view in views if view.scene in chosen]
    head = fit(collect(members, load_vit(), BLOCKS, 1, out / "cells"))
    return save(head, out, {"trained_on": chosen, "held_out": scenes[-HELD_OUT:], "views": len(members)})


def fit(cells: Cells, seed: int = 0) -> dict[str, Tensor]:
    """The head's tensors by name, float16: cross-entropy against each cell's shares of classes, rare ones weighted."""
    import torch

    torch.manual_seed(seed)
    features = centred(cells.features.float().mT[..., None]).squeeze(3).mT.flatten(0, 1)
    targets = cells.shares.flatten(0, 1)[:, list(CLASS_IDS)].float()
    weights = targets.mean(0).clamp(min=1e-4).rsqrt()
    head = {name: tensor.requires_grad_() for name, tensor in _initial(features.shape[1]).items()}
    steps = EPOCHS * (len(targets) // BATCH)
    optimizer = torch.optim.AdamW(head.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, max(steps, 2))
    for rows in _batches(len(targets)):
        seen = torch.nn.functional.dropout(features[rows], DROPOUT)
        logits = classify(head, project(head, seen[:, :, None, None]))[:, :, 0, 0]
        loss = -(targets[rows] * weights * logits.log_softmax(dim=1)).sum() / (targets[rows] * weights).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach().half() for name, tensor in head.items()}


def evaluate(operator: Indoor, views: Sequence[View]) -> dict[str, Any]:
    """mIoU over the classes in the ground truth, pixel accuracy and IoU by class; other classes are not scored.

    `scored` is the share of all pixels that have one of the operator's classes.
    """
    import torch

    labels = operator.label_set
    confusion, pixels = np.zeros((len(labels.ids), len(labels.ids)), np.int64), 0
    for view in views:
        image, truth = read_view(view)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        batch = FrameBatch(tensor, view.scene, (view.frame.id,), (view.frame.camera,))
        size = (image.shape[0], image.shape[1])
        found = operator.decode(operator.encode(batch), size)[0].argmax(0).numpy()
        confusion += _confusion(truth, found, labels)
        pixels += truth.size
    return _scores(confusion, pixels, labels)


def save(head: dict[str, Tensor], out: Path, facts: dict[str, Any]) -> Path:
    """Write indoor_head.safetensors and its card indoor_head.json to `out`; return the card's path."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(head, out / "indoor_head.safetensors")
    card = {
        "name": "indoor_head",
        "label_set": "nyu40",
        "class_ids": CLASS_IDS,
        "blocks": BLOCKS,
        "channels": CHANNELS,
        "sha256": tensors_sha256(head),
        "command": "jobs/train_indoor.py --rooms DIR --out DIR",
        **facts,
    }
    path = out / "indoor_head.json"
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def _initial(width: int) -> dict[str, Tensor]:
    import torch

    encode, decode = torch.nn.Linear(width, CHANNELS), torch.nn.Linear(CHANNELS, len(CLASS_IDS))
    parts = {"encode": encode, "norm": torch.nn.LayerNorm(CHANNELS), "decode": decode}
    return {f"{name}.{key}": tensor.data for name, part in parts.items() for key, tensor in part.named_parameters()}


def _batches(count: int) -> list[Tensor]:
    import torch

    return [rows for _ in range(EPOCHS) for rows in torch.randperm(count).split(BATCH) if len(rows) == BATCH]


def _confusion(truth: NDArray[np.uint16], found: NDArray[np.int64], labels: LabelSet) -> NDArray[np.int64]:
    """[K, K] pixels by true and predicted class index."""
    classes = len(labels.ids)
    index = np.full(65536, -1)
    index[list(labels.ids)] = range(classes)
    true = index[truth]
    scored = true >= 0
    return np.bincount(true[scored] * classes + found[scored], minlength=classes**2).reshape(classes, classes)


def _scores(confusion: NDArray[np.int64], pixels: int, labels: LabelSet) -> dict[str, Any]:
    hits, true = np.diag(confusion), confusion.sum(1)
    iou = hits / np.maximum(true + confusion.sum(0) - hits, 1)
    present = true > 0
    by_class = {name: round(float(v), 3) for name, v, seen in zip(labels.names, iou, present, strict=True) if seen}
    return {
        "miou": round(float(iou[present].mean()), 3),
        "accuracy": round(float(hits.sum() / true.sum()), 3),
        "scored": round(float(true.sum() / pixels), 3),
        "iou": by_class,
    }
