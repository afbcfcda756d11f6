#!/usr/bin/env python3
"""The whole way on the sample room: inconsistent 2D labels in, lifted labels out, both compared with ground truth.

Shown with labels that are wrong in view-inconsistent ways (made here from ground truth, so that what lifting has to
repair is known exactly) and with the small built-in model: both in one pass, raw and lifted with depth. The former
are lifted from RGB alone too.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT / "examples" / "sample_room"
TITLES = ("Inconsistent labels", "Built-in model")
PICTURED = ("4", "11", "18")
"""Frames of the picture."""
QUERY = (
    """python -c "import pandas as pd; print(pd.read_parquet('{}/labels').groupby('operator').consistency.mean())\""""
)


def main() -> None:
    """Label, evaluate, write report and picture below `--out`, and end with one JSON line that names the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder of everything that is written")
    out = parser.parse_args().out.resolve()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")

    from pipeline.evaluation.spoil import spoil_room
    from pipeline.report.report import write_report
    from schemas.errors import OperatorError

    spec = f"precomputed:{spoil_room(ROOM, out / 'noisy')}"
    noisy = {"spec": [spec], "kwargs": {spec: {"label_set": "nyu40"}}}
    both = {**noisy, "spec": [spec, "indoor"]}
    raw, store, rgb_store = out / "raw", out / "labels", out / "labels_rgb"
    try:
        operators = label(both, {raw: "none", store: "depth"})
    except OperatorError as error:
        print(f"The built-in model is left out: {error}")
        operators = label(noisy, {raw: "none", store: "depth"})
    label(noisy, {rgb_store: "rgb"})
    results = {f"{TITLES[k]}, lifted with depth": score(own, store, raw) for k, own in enumerate(operators)}
    results[f"{TITLES[0]}, lifted from RGB alone"] = score(spec, rgb_store, raw)
    report = write_report(str(store), out / "report.html", str(ROOM), str(raw))
    picture = write_picture(spec, {"2D": raw, "lifted, depth": store, "lifted, RGB": rgb_store}, out / "demo.png")
    for title, result in results.items():
        print(f"\n{title}\n{result.table()}")
    print(f"\nlabels   {store}\nreport   {report}\npicture  {picture}\nquery    {QUERY.format(store)}\n")
    scores = {title: _scores(result) for title, result in results.items()}
    print(json.dumps({"store": str(store), "report": str(report), "picture": str(picture), "scores": scores}))


def label(operators: dict[str, Any], stores: dict[Path, str]) -> list[str]:
    """Label the room with all operators in one pass a store, each by its own lift; their SPECs.

    What is in the stores already is kept.
    """
    from pipeline.run import run_labeling
    from schemas.config import parse_config

    for store, method in stores.items():
        values = {"source": str(ROOM), "store": str(store), "operator": operators, "engine": {"kind": "local"}}
        run_labeling(parse_config({**values, "lift": {"method": method}}))
    return list(operators["spec"])


def score(spec: str, store: Path, raw: Path) -> Evaluation:
    """An operator's lifted labels and its raw ones beside ground truth."""
    from pipeline.evaluation import evaluate
    from pipeline.store import operator_slug

    return evaluate(str(store), str(ROOM), operator=operator_slug(spec), raw_store=str(raw))


def write_picture(spec: str, stores: dict[str, Path], path: Path) -> Path:
    """A PNG with one row a frame of `PICTURED`: photo, the labels of each store over it, ground truth."""
    import cv2
    import numpy as np

    from pipeline.assets import decode_image
    from pipeline.readers import ground_truth, load_scene, open_dataset
    from pipeline.store import decode_label_map, operator_slug, read_labels
    from schemas.config import ReaderConfig
    from schemas.label_sets import label_set

    config = ReaderConfig()
    (ref,) = open_dataset(str(ROOM), config)
    frames = {frame.id: frame for frame in load_scene(ref, config).frames}
    tables = [read_labels(str(store), operator=operator_slug(spec)).set_index("frame") for store in stores.values()]
    rows = []
    for frame_id in PICTURED:
        frame = frames[frame_id]
        maps = [decode_label_map(table.loc[frame_id]) for table in tables] + [ground_truth(frame, config)]
        photo = decode_image(frame.image, frame.camera)
        palette = label_set("nyu40").palette()
        rows.append(np.hstack([photo, *(photo // 3 + palette[ids] // 3 * 2 for ids in maps)]))
    titles = _titles(["photo", *stores, "ground truth"], photo.shape[1])
    cv2.imwrite(str(path), np.vstack([titles, *rows])[..., ::-1])
    return path


def _titles(names: list[str], width: int) -> NDArray[np.uint8]:
    """A strip [28, width * len(names), 3] with a name over each column."""
    import cv2
    import numpy as np

    strip = np.full((28, width * len(names), 3), 255, np.uint8)
    for column, name in enumerate(names):
        cv2.putText(strip, name, (column * width + 8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _scores(result: Evaluation) -> dict[str, dict[str, float | None]]:
    """The three scores that matter most, by row."""
    rows = {name: row.overall for name, row in result.rows.items() if row}
    return {name: {k: getattr(row, k) for k in ("miou", "accuracy", "consistency")} for name, row in rows.items()}


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
