"""Files that claim or unfold to far more than they are. Prints {name: [answer, finding]} as one JSON line.

Run in a process of its own: each is judged as an input of a campaign is, by time, answer and memory.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from judge import judge  # noqa: E402
from mutators import png_file  # noqa: E402
from target_files import CAMERA  # noqa: E402
from target_scenes import make, read_scene  # noqa: E402
from target_store import world  # noqa: E402

from pipeline.assets import decode_depth, decode_ids, decode_image  # noqa: E402
from pipeline.lift_weights import load_weights  # noqa: E402
from pipeline.operators.prediction_files import UnreadableError, decode_map  # noqa: E402
from pipeline.store import Store, read_labels, validate  # noqa: E402
from pipeline.store.codec import decode_features  # noqa: E402
from schemas.camera import Camera  # noqa: E402
from schemas.config import LiftConfig  # noqa: E402
from schemas.errors import Lift3DError  # noqa: E402
from schemas.scene import Asset  # noqa: E402


def png(side: int, color: int, bits: int, *, whole: bool) -> bytes:
    """A black PNG of side x side pixels; `whole`: with all of its rows, else it only claims them."""
    channels = {0: 1, 2: 3, 3: 1}[color]
    row = bytes(1 + side * channels * bits // 8)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row) for _ in range(side if whole else 1)) + packer.flush()
    palette = [(b"PLTE", bytes(768))] if color == 3 else []
    header = struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0)
    return png_file([(b"IHDR", header), *palette, (b"IDAT", rows), (b"IEND", b"")])


def npy(shape: tuple[int, ...]) -> bytes:
    """A .npy file that claims a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


def sens(side: int, depth: bytes) -> bytes:
    """A .sens file with one frame, whose depth map is side x side and compressed."""
    data = bytearray(make.sens_bytes(make.make_views(1), depth_codec=1))
    at = 12 + len(b"StructureSensor") + 256 + 8
    data[at + 8 : at + 16] = struct.pack("<2I", side, side)
    start = at + 28
    color = struct.unpack_from("<Q", data, start + 80)[0]
    data[start + 88 : start + 96] = struct.pack("<Q", len(depth))
    return bytes(data[: start + 96 + color]) + depth


def repeated_rows(folder: Path, rows: int) -> bytes:
    """A label file whose rows are one row, by dictionaries: small, and large as a table."""
    store = Store(str(folder / "rows"))
    store.prepare()
    world.label(store, "room", 1, 1)
    table = pq.read_table(next((folder / "rows" / "labels").rglob("*.parquet")), partitioning=None)
    many = pa.table(
        [pa.chunked_array([pa.array([column[0].as_py()] * rows, column.type)]) for column in table.columns],
        schema=table.schema,
    )
    sink = io.BytesIO()
    pq.write_table(many, sink, compression="zstd", use_dictionary=True)
    return sink.getvalue()


def bombs(folder: Path) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name -> size of the file, and reading it."""
    side = 9_000

    def file(name: str, data: bytes, read: Callable[[Path], object]) -> tuple[int, Callable[[], object]]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return len(data), lambda: read(path)

    large = Camera(CAMERA.K, CAMERA.world_from_cam, side, side)
    zeros = pa.compress(bytes(2 * side * side), codec="zstd", asbytes=True)
    row = {"kind": "features", "features": zeros, "channels": 1, "h": side, "w": side, "scene": "room", "frame": "0"}
    store = folder / "rows"
    label = store / "labels" / "operator=indoor" / "scene=room" / "000000-0123456789ab.parquet"
    nested = b'{"frames": [' + b"[]," * 12_000_000 + b"0]}"
    return {
        "png claims": file("a.png", png(40_000, 2, 8, whole=False), lambda p: decode_image(Asset(str(p)), large)),
        "png unfolds": file("b.png", png(side, 2, 8, whole=True), lambda p: decode_image(Asset(str(p)), large)),
        "depth unfolds": file("c.png", png(side, 0, 16, whole=True), lambda p: decode_depth(Asset(str(p)))),
        "palette unfolds": file("d.png", png(side, 3, 8, whole=True), lambda p: decode_ids(Asset(str(p)))),
        "jpeg claims": file("e.jpg", jpeg(side), lambda p: decode_image(Asset(str(p)), large)),
        "zlib unfolds": file("room/room.sens", sens(side, zlib.compress(bytes(2 * side * side))), scene),
        "zlib goes on": file("hall/hall.sens", sens(16, zlib.compress(bytes(2**28))), scene),
        "npy claims": file("f.npy", npy((2**20, 2**10, 2**10)), prediction),
        "npy overflows": file("g.npy", npy((2**40, 2**40, 2**40)), prediction),
        "zstd unfolds": (len(zeros), lambda: decode_features(row)),
        "zstd claims": (99, lambda: decode_features({**row, "channels": 2**20, "features": zeros[:99]})),
        "rows unfold": file(str(label), repeated_rows(folder, 200_000), lambda p: read_labels(str(store))),
        "rows are checked": (len(label.read_bytes()), lambda: refusing(validate(str(store)).problems)),
        "json unfolds": file("den/transforms.json", nested, scene),
        "header claims": file(
            "w.safetensors", (2**40).to_bytes(8, "little"), lambda p: load_weights(LiftConfig(weights=str(p)))
        ),
    }


def prediction(path: Path) -> None:
    """Decode a map; what `precomputed` makes of a refusal is fuzzed elsewhere."""
    try:
        decode_map(path.read_bytes())
    except UnreadableError as error:
        raise Lift3DError(str(error), remedy="write it again") from None


def jpeg(side: int) -> bytes:
    """A JPEG whose header claims a size."""
    data = bytearray(make.encode(make.make_views(1).frames[0].image, ".jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def scene(path: Path) -> None:
    """Read a scene; a frame that cannot be used is refused as a whole scene is."""
    from pipeline.readers import load_scene, open_dataset
    from schemas.config import ReaderConfig

    (ref,) = open_dataset(str(path.parent), ReaderConfig())
    found = load_scene(ref, ReaderConfig())
    for frame in found.frames:
        assert frame.depth
        decode_depth(frame.depth)
    read_scene(path.parent)


def refusing(problems: tuple) -> None:
    """What `validate` says, as an error."""
    assert problems
    raise Lift3DError(problems[0].message, remedy=problems[0].remedy)


def main(folder: Path) -> None:
    """Judge them all."""
    read_scene(make.write_scannet(folder / "warm", make.make_views(1)))
    answers: dict[str, list[str]] = {}
    for name, (size, read) in bombs(folder).items():
        told = ["accepted"]

        def action(read: Callable[[], object] = read, told: list[str] = told) -> None:
            try:
                read()
            except Lift3DError as error:
                told[0] = str(error)
                raise

        answers[name] = [told, judge(action, size)]
        answers[name][0] = told[0]
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
