#!/usr/bin/env python3
"""Fit the constants of a class's confidence (ODDS... in lift3d_model/lifted.py) on rooms with true labels.

jobs/fit_confidence.py ROOMS [--views N] [--scenes GLOB]

ROOMS: labelled scenes with object ids, in any layout that `lift3d inspect` reads; not those that confidence is judged
on. Their labels are spoiled as `lift3d benchmark lift` does it, lifted by depth and from RGB, from 4, 8 and 16 source
views, and confidence is fitted to which pixels came out right. Three target views of a room take about four minutes on
a core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    """Print the fitted constants, and what they change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", help="dataset to fit on")
    parser.add_argument("--views", type=int, default=8, help="target views a scene")
    parser.add_argument("--scenes", default="*", help="glob over scene ids")
    _run(parser.parse_args())


def _run(chosen: argparse.Namespace) -> None:
    from fnmatch import fnmatch

    from pipeline.benchmark.confidence_fit import SHIPPED, compared, fit, gather
    from pipeline.benchmark.scenes import open_scenes
    from schemas.config import ReaderConfig

    pixels = []
    for bench in open_scenes([chosen.rooms], ReaderConfig(), chosen.views):
        if fnmatch(bench.id, chosen.scenes):
            for one in gather(bench):
                pixels.append(one)
                print(f"{bench.id}: {one.mode}, {one.sources} sources, noise {one.noise:g}", file=sys.stderr)
    fitted = fit(pixels)
    for title, constants in (("shipped", SHIPPED), ("fitted", fitted)):
        names = ("ODDS", "ODDS_SHARE", "ODDS_VIEW", "ODDS_LEAD")
        print(f"{title}: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(names, constants, strict=True)))
    print(compared(pixels, fitted).markdown())


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
