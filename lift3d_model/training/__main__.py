"""`python -m lift3d_model.training CACHE OUT`: train from a prepared cache on a machine with torch and numpy alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from lift3d_model.training.loop import FitSettings, fit
from lift3d_model.training.scenes import open_cache
from lift3d_model.training.state import write_whole
from lift3d_model.training.tasks import TASKS, collect


def main() -> int:
    """Train every part that is asked for, one after the other; an interrupted run goes on when started again."""
    chosen = _arguments()
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    train, dev = open_cache(chosen.cache)
    settings = FitSettings(**{**json.loads(chosen.fit), **({"steps": chosen.steps} if chosen.steps else {})})
    tasks = [TASKS[name](train, dev, device) for name in chosen.parts or TASKS]
    try:
        for task in tasks:
            fit(task, chosen.out, settings)
    except KeyboardInterrupt:
        return 130
    write_whole(chosen.out / "lift3d.safetensors", collect(chosen.out).to_bytes())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lift3d_model.training", description=__doc__)
    parser.add_argument("cache", type=Path, help="folder that `lift3d train` prepared")
    parser.add_argument("out", type=Path, help="folder of the state, the log and the checkpoint")
    parser.add_argument("--parts", nargs="+", choices=sorted(TASKS), help="parts of the model; all by default")
    parser.add_argument("--steps", type=int, help="optimizer steps a part")
    parser.add_argument("--fit", default="{}", help='settings of the loop as JSON, for example {"learning_rate": 0.02}')
    parser.add_argument("--device", choices=["cpu", "cuda"], help="CUDA where there is some, by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
