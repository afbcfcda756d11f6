"""What travels to Ray's workers: chunks come out of their payloads as they went in, each view written down once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.bundles import Bundle, Unit
from pipeline.engines.payloads import Unpacker, packed
from pipeline.readers import load_scene, open_dataset
from schemas.config import LabelingConfig
from schemas.scene import Chunk, chunk_to_json

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]


def chunks_of(config: LabelingConfig) -> list[Chunk]:
    """The chunks of a dataset."""
    from pipeline.plan import plan_scene

    scenes = [load_scene(ref, config.reader) for ref in open_dataset(config.source, config.reader)]
    return [chunk for scene in scenes for chunk in plan_scene(scene, config, "model", {}).chunks]


def plain(bundles: list[Bundle]) -> list[list[tuple[int, object]]]:
    """Bundles as plain types, which compare by value."""
    return [[(unit.operator, chunk_to_json(unit.chunk)) for unit in bundle] for bundle in bundles]


def test_bundles_come_out_as_they_went_in(rooms: Rooms, config: Build) -> None:
    """Of two operators, one with other views of the same scene; chunk after chunk, scene after scene, in any order."""
    rooms(a=8, b=6)
    chunks = chunks_of(config())
    bundles: list[Bundle] = [(Unit(0, chunk), Unit(1, replace(chunk, frames=chunk.frames[::-1]))) for chunk in chunks]
    unpack = Unpacker()
    assert len(bundles) > 2
    assert plain([unpack(payload) for payload in packed(bundles)]) == plain(bundles)
    assert plain([unpack(payload) for payload in packed(bundles)[::-1]]) == plain(bundles[::-1])


def test_names_that_are_not_unicode_survive(rooms: Rooms, config: Build) -> None:
    rooms(a=4)
    (chunk, *_) = chunks_of(config())
    odd = replace(chunk.frames[0], id="odd\udcff\nname")
    bundles: list[Bundle] = [(Unit(0, replace(chunk, frames=(odd, *chunk.frames[1:]))),)]
    assert plain([Unpacker()(payload) for payload in packed(bundles)]) == plain(bundles)
