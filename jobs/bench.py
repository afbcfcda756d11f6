#!/usr/bin/env python3
"""Frames a second of raw and lifted labelling on the sample room, in one run, as ratios to raw.

The absolute figures are those of this machine on this day; the ratios say what lifting costs beside the 2D model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT / "examples" / "sample_room"
METHODS = ("none", "depth", "rgb")


def main() -> None:
    """Label the room once with each method, print a table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operator", default="indoor", help="operator SPEC")
    parser.add_argument("--set", dest="settings", action="append", metavar="KEY=VALUE", help="a config value")
    chosen = parser.parse_args()
    rates = {method: measure(chosen.operator, chosen.settings, method) for method in METHODS}
    print(f"{'lift':<8}{'frames/s':>10}{'of raw':>10}")
    for method, rate in rates.items():
        print(f"{method:<8}{rate:>10.2f}{rate / rates['none']:>10.2f}")
    print(json.dumps({"operator": chosen.operator, "frames_per_s": rates}))


def measure(operator: str, settings: list[str] | None, method: str) -> float:
    """Frames a second of one run into an empty store, from the first to the last chunk: start-up is not counted."""
    from jobs.settings import labeling_config
    from pipeline.progress import Progress
    from pipeline.run import run_labeling

    seen: list[Progress] = []
    with tempfile.TemporaryDirectory() as store:
        options = {"source": str(ROOM), "store": store, "operator.spec": operator, "lift.method": method}
        run_labeling(labeling_config(None, settings, {**options, "engine.kind": "local"}), on_progress=seen.append)
    return seen[-1].rate


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
