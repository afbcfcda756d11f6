#!/usr/bin/env python3
"""Train the head of the `indoor` operator and measure it.

jobs/train_indoor.py --rooms DIR --out DIR [--evaluate DIR ...]

Encoded cells are cached under OUT/cells, so that a stopped run goes on. Copy OUT/indoor_head.* to
pipeline/operators/data to ship them; `--evaluate` alone measures the shipped head.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Train where --rooms is given, then evaluate on each --evaluate dataset; one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", help="labelled scenes, in any layout that `lift3d inspect` reads")
    parser.add_argument("--out", type=Path, help="folder of the head, its card and the cache")
    parser.add_argument(
        "--evaluate", action="append", default=[], metavar="DIR", help="measure the shipped head on these"
    )
    parser.add_argument("--stride", type=int, default=14, help="pixels a cell while measuring")
    parser.add_argument("--every", type=int, default=1, help="measure on every n-th view")
    parser.add_argument("--scenes", default="*", help="glob over scene ids to measure on")
    chosen = parser.parse_args()
    if bool(chosen.rooms) != bool(chosen.out) or not (chosen.rooms or chosen.evaluate):
        parser.error("give --rooms and --out to train, --evaluate to measure")
    _run(chosen)


def _run(chosen: argparse.Namespace) -> None:
    from fnmatch import fnmatch

    from pipeline.operators.indoor import Indoor
    from pipeline.operators.indoor_cells import list_views
    from pipeline.operators.indoor_training import evaluate, train

    if chosen.rooms:
        print(train(chosen.rooms, chosen.out))
    for dataset in chosen.evaluate:
        views = [view for view in list_views(dataset) if fnmatch(view.scene, chosen.scenes)]
        scores = evaluate(Indoor(stride=chosen.stride), views[:: chosen.every])
        print(json.dumps({"dataset": dataset, "stride": chosen.stride, **scores}), flush=True)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
