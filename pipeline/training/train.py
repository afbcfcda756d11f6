"""`lift3d train`: prepare the cache, fit every part, write one checkpoint with its card, log and picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.training.config import TrainingConfig, fit_config
from pipeline.training.plot import draw_log
from pipeline.training.prepare import prepare
from schemas.errors import ConfigError, UnknownNameError

NAME = "lift3d"


def train(config: TrainingConfig) -> dict[str, Any]:
    """Train; return the card, which is also written to OUT/lift3d.json beside lift3d.safetensors, .csv and .png.

    Raises `KeyboardInterrupt` after saving where the run is interrupted: the same command goes on from there.
    """
    import torch

    from lift3d_model.checkpoint import digest
    from lift3d_model.training.loop import BEST, FitSettings, fit
    from lift3d_model.training.scenes import open_cache
    from lift3d_model.training.state import write_whole
    from lift3d_model.training.tasks import TASKS, collect

    unknown = sorted({*config.parts, *config.part} - set(TASKS))
    if unknown:
        raise UnknownNameError(f"there is no part {unknown[0]!r} to train", remedy=f"known: {', '.join(TASKS)}")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    out = Path(config.out)
    prepare(config, out / "cache", device)
    scenes, held_out = open_cache(out / "cache")
    try:
        tasks = [TASKS[name](scenes, held_out, torch.device(device)) for name in config.parts or TASKS]
    except ValueError as error:
        raise ConfigError(str(error), remedy="--set 'parts=[\"weighting\"]' trains without depth") from None
    for task in tasks:
        fit(task, out, FitSettings(**fit_config(config, task.name).model_dump()))
    content = collect(out).to_bytes()
    write_whole(out / f"{NAME}.safetensors", content)
    trained = [name for name in TASKS if (out / name / BEST).exists()]
    card = _card(config, out, trained) | {"sha256": digest(content)}
    write_whole(out / f"{NAME}.json", (json.dumps(card, indent=1) + "\n").encode())
    _join_logs(out, trained)
    return card


def _card(config: TrainingConfig, out: Path, parts: Sequence[str]) -> dict[str, Any]:
    """What was trained, on what, how, and what it reached on held-out views before and after."""
    split = json.loads((out / "cache" / "split.json").read_text(encoding="utf-8"))
    return {
        "name": NAME,
        "parts": {name: _part(config, out, name) for name in parts},
        "features": {name: feature.model_dump() for name, feature in config.data.features.items()},
        "views_trained_on": split,
        "data_sha256": data_digests(out / "cache", split),
        "torch": version("torch"),
    }


def _part(config: TrainingConfig, out: Path, name: str) -> dict[str, Any]:
    from lift3d_model.checkpoint import read_tensors
    from lift3d_model.training.log import read_log
    from lift3d_model.training.loop import BEST

    tensors, about = read_tensors((out / name / BEST).read_bytes())
    shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
    log = out / name / "log.csv"
    if not log.exists():
        return {"tensors": shapes, "trained": "elsewhere, and its weights put here"}
    rows = read_log(log)
    untrained = {figure: value for step, part, figure, value in rows if part == "dev" and step == 0}
    kept = {figure: value for _, part, figure, value in rows if part == "kept"}
    return {
        "tensors": shapes,
        "fit": fit_config(config, name).model_dump(),
        "kept_from_step": json.loads(about.get("steps", "{}")),
        "held_out": {"untrained": untrained, "kept": kept},
    }


def data_digests(cache: Path, split: Mapping[str, int]) -> dict[str, str]:
    """Digest of each scene's images, cameras and sensor depth as they were used."""
    digests = {}
    for scene in sorted(split):
        whole = sha256()
        for name in ("images", "K", "poses", "depth"):
            path = cache / scene / f"{name}.npy"
            whole.update(path.read_bytes() if path.exists() else b"")
        digests[scene] = whole.hexdigest()
    return digests


def _join_logs(out: Path, names: Sequence[str]) -> None:
    """All parts' logs as one CSV, and as one picture."""
    from lift3d_model.training.log import read_log

    log = out / f"{NAME}.csv"
    with log.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("step", "part", "figure", "value"))
        for name in names:
            if not (out / name / "log.csv").exists():
                continue
            rows.writerows(
                (step, part, f"{name}.{figure}", f"{value:.6g}")
                for step, part, figure, value in read_log(out / name / "log.csv")
            )
    draw_log(log, out / f"{NAME}.png")
