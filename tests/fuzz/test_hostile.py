"""Hostile datasets and stores through `lift3d label`: refused, or labelled without harm; nothing outside is touched."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.cli import main

SECRET = "the sentinel of a file that is none of the dataset's business"


@pytest.fixture(scope="session")
def make():
    """Writers of small scenes, from the readers' tests."""
    path = Path(__file__).parents[1] / "readers" / "conftest.py"
    spec = importlib.util.spec_from_file_location("readers_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place:
    """A folder with a dataset, a store beside it, and files that are nobody's business."""

    def __init__(self, root: Path, make) -> None:
        self.make, self.root = make, root
        self.dataset, self.store, self.outside = (root / name for name in ("dataset", "store", "outside"))
        self.outside.mkdir(parents=True)
        (self.outside / "private.txt").write_text(SECRET)
        view = make.make_views(1, 99).frames[0]
        (self.outside / "private.jpg").write_bytes(make.encode(view.image, ".jpg"))
        self.before = self._outside()

    def scannet(self, name: str = "room") -> Path:
        return self.make.write_scannet(self.dataset / name, self.make.make_views(3))

    def transforms(self, **changes) -> Path:
        views = self.make.make_views(3)
        document = self.make.transforms_of(views)
        document["frames"][1] |= changes
        return self.make.write_transforms(self.dataset / "room", views, data=document)

    def label(self, *options: str, source: Path | None = None) -> int:
        """Exit code of a run; asserts that nothing outside changed or was told."""
        operator = [*("--operator", "tests.fuzz.plain:Plain"), *("--engine", "local"), *("--lift", "none")]
        with pytest.raises(SystemExit) as end:
            main(["label", str(source or self.dataset), "--store", str(self.store), *operator, *options])
        assert self._outside() == self.before
        assert not [path for path in self.written() if SECRET.encode() in path.read_bytes()]
        return end.value.code or 0

    def written(self) -> list[Path]:
        return [path for path in self.store.rglob("*") if path.is_file()]

    def frames(self) -> list[str]:
        from pipeline.store import read_labels

        return sorted(read_labels(str(self.store), columns=["frame"])["frame"])

    def quarantine(self) -> pd.DataFrame:
        from pipeline.store import read_quarantine

        return read_quarantine(str(self.store))

    def _outside(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.outside.iterdir()}


@pytest.fixture
def place(tmp_path, make) -> Place:
    return Place(tmp_path, make)


@pytest.mark.parametrize(
    "path",
    [
        *("../../outside/private.jpg", "images/../../../outside/private.jpg", "..\\..\\outside\\private.jpg"),
        *(
            "{outside}/private.jpg",
            "file://{outside}/private.jpg",
            "http://127.0.0.1:9/private.jpg",
            "s3://b/private.jpg",
        ),
        *("images/\x00.jpg", "images/a\nb.jpg", "x" * 300 + ".jpg", "~/private.jpg", "images", "\ud800.jpg"),
    ],
    ids=lambda path: ascii(path)[1:25],
)
def test_an_image_path_that_leads_elsewhere_costs_its_frame(place, path) -> None:
    place.transforms(file_path=path.format(outside=place.outside))
    assert place.label() == 3
    assert place.frames() == ["images/0000", "images/0002"]
    (row,) = place.quarantine().to_dict("records")
    assert row["reason"] == "image_missing"
    assert row["message"].isprintable()


def test_a_depth_path_that_leads_elsewhere_costs_its_frame(place) -> None:
    place.transforms(depth_file_path="../../outside/private.jpg")
    assert place.label() == 3
    assert place.frames() == ["images/0000", "images/0002"]


def test_a_linked_image_outside_costs_its_frame_unless_links_are_trusted(place) -> None:
    image = place.scannet() / "color" / "1.jpg"
    image.unlink()
    image.symlink_to(place.outside / "private.jpg")
    assert place.label() == 3
    assert place.frames() == ["0", "2"]
    (row,) = place.quarantine().to_dict("records")
    assert "out of the scene's folder" in row["message"]
    assert "reader.follow_links" in row["message"]
    assert place.label("--set", "reader.follow_links=true") == 0
    assert place.frames() == ["0", "1", "2"]


def test_a_link_within_the_scene_is_read(place) -> None:
    color = place.scannet() / "color"
    (color / "1.jpg").rename(color / "one.bin")
    (color / "1.jpg").symlink_to("one.bin")
    assert place.label() == 0


@pytest.mark.parametrize("name", ["pose/1.txt", "intrinsic/intrinsic_color.txt"])
def test_a_linked_text_outside_costs_the_scene_and_is_never_told(place, name) -> None:
    for scene in ("room", "sound"):
        place.scannet(scene)
    (place.dataset / "room" / name).unlink()
    (place.dataset / "room" / name).symlink_to(place.outside / "private.txt")
    assert place.label() == 3
    assert place.frames() == ["0", "1", "2"]


def test_a_linked_folder_outside_costs_its_frames(place) -> None:
    depth = place.scannet() / "depth"
    shutil.move(depth, place.root / "elsewhere")
    depth.symlink_to(place.root / "elsewhere")
    place.scannet("sound")
    assert place.label() == 3
    assert len(place.quarantine()) == 3


def test_a_pipe_and_a_device_are_no_images(place) -> None:
    color = place.scannet() / "color"
    os.mkfifo(color / "3.jpg")
    (color / "4.jpg").symlink_to("/dev/zero")
    assert place.label("--set", "reader.follow_links=true") == 0
    assert place.frames() == ["0", "1", "2"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "<script>alert(1)<",
            "a'\"b",
            "a..b",
            "%2e%2e%2fx",
            "a\nb",
            "\u202eroom",
            "-rf",
        ),
        *("operator=x", "__HIVE_DEFAULT_PARTITION__", "s" * 250, "\udcff"),
    ],
    ids=lambda name: ascii(name)[1:25],
)
def test_a_scene_with_an_odd_name_is_labelled_inside_the_store_or_refused(place, name) -> None:
    place.scannet("sound")
    place.scannet(name)
    code = place.label()
    assert code in (0, 1, 3)
    top = {path.name for path in place.root.iterdir()}
    assert top == {"dataset", "store", "outside"}
    if code == 0:
        from pipeline.store import read_labels, validate

        assert set(read_labels(str(place.store), columns=["frame"])["scene"]) == {"sound", name}
        assert validate(str(place.store)).ok


@pytest.mark.parametrize("name", ["a\nb", "<script>", "%00", "f" * 240])
def test_a_frame_with_an_odd_name_is_labelled_or_set_aside(place, name) -> None:
    root = place.scannet()
    for folder, suffix in (("color", ".jpg"), ("pose", ".txt"), ("depth", ".png")):
        (root / folder / f"1{suffix}").rename(root / folder / f"{name}{suffix}")
    assert place.label() in (0, 3)
    assert {"0", "2"} <= set(place.frames())
    assert len(place.frames()) + len(place.quarantine()) == 3


@pytest.mark.parametrize("area", ["labels", "_commits", "runs"])
def test_a_store_whose_folders_are_links_out_is_not_written_through(place, area) -> None:
    place.scannet()
    place.store.mkdir()
    (place.store / area).symlink_to(place.outside)
    assert place.label() == 1


def test_a_store_that_is_a_link_itself_is_used(place) -> None:
    place.scannet()
    (place.root / "disk").mkdir()
    place.store.symlink_to(place.root / "disk")
    assert place.label() == 0
    assert place.frames() == ["0", "1", "2"]


@pytest.mark.parametrize(
    "switch",
    [
        {"retire": {"../../../../../outside/private": "x.parquet"}, "enter": [], "drop": []},
        {"retire": {}, "enter": [], "drop": ["../../../../outside/private"]},
        {"retire": {"000000-0123456789ab": "../../../../outside/x"}, "enter": [], "drop": []},
    ],
)
def test_a_switch_that_names_files_elsewhere_is_refused(place, switch) -> None:
    from pipeline.store import operator_slug

    place.scannet()
    assert place.label() == 0
    slug = operator_slug("tests.fuzz.plain:Plain")
    intent = place.store / "_publish" / f"operator={slug}" / "scene=room" / "switch.json"
    intent.parent.mkdir(parents=True)
    intent.write_text(json.dumps(switch))
    assert place.label() == 1
    assert len(list((place.store / "labels").rglob("*.parquet"))) == 1


class Elements(HTMLParser):
    """Every element with its attributes' names, in order; and everything that could load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]


def test_the_report_of_a_hostile_dataset_has_the_elements_of_a_harmless_one(tmp_path, make) -> None:
    """Names that are markup change texts of the page, and no element or attribute of it."""
    shapes = []
    names = [("room", "one"), ("<script>alert(1)<'\"onerror=x>", "<img src=x onerror='y'>")]
    for number, (scene, frame) in enumerate(names):
        place = Place(tmp_path / str(number), make)
        root = place.scannet(scene)
        for folder, suffix in (("color", ".jpg"), ("pose", ".txt"), ("depth", ".png")):
            (root / folder / f"1{suffix}").rename(root / folder / f"{frame}{suffix}")
        (root / "color" / "2.jpg").write_bytes(b"damaged")
        assert place.label() == 3
        out = place.root / "report.html"
        main_report(place.store, out)
        page = Elements(out.read_text(encoding="utf-8"))
        assert all(value.startswith("data:image/") for value in page.loads)
        assert "Content-Security-Policy" in out.read_text(encoding="utf-8")
        shapes.append(page.shape)
    assert shapes[0] == shapes[1]
    assert not {"script", "iframe", "object", "link", "form"} & {tag for tag, _ in shapes[1]}


def main_report(store: Path, out: Path) -> None:
    """`lift3d report`."""
    with pytest.raises(SystemExit) as end:
        main(["report", str(store), "--out", str(out)])
    assert not end.value.code


def test_hostile_scenes_decode_to_what_is_stored(place) -> None:
    """A control: what passes is labelled as it should be."""
    from pipeline.store import decode_label_map, read_labels

    place.scannet()
    assert place.label() == 0
    for row in read_labels(str(place.store)).to_dict("records"):
        assert np.unique(decode_label_map(row)).tolist() == [1]
