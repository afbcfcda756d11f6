"""Readers by name, by what is there, and from other packages."""

import sys
from importlib.metadata import EntryPoint

import pytest

from pipeline.protocols import SceneReader
from pipeline.readers import load_scene, open_dataset, reader_names, registry
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, DatasetError, UnknownNameError
from schemas.scene import Scene, SceneRef


class OneScene:
    """A reader of somebody else's."""

    name = "mine"

    def recognises(self, uri):
        return uri.endswith("mine")

    def list_scenes(self, uri):
        return [SceneRef("only", uri, self.name)]

    def load(self, ref):
        return Scene(ref.id, ())


@pytest.fixture
def plugin(monkeypatch):
    """Registers an object of this module as the entry point `mine`."""
    monkeypatch.setitem(sys.modules, "somebodys_readers", sys.modules[__name__])

    def register(attribute):
        point = EntryPoint("mine", f"somebodys_readers:{attribute}", registry.ENTRY_POINT_GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])

    return register


@pytest.mark.parametrize("name", ["scannet", "sens", "nerfstudio"])
def test_built_in_readers_keep_the_protocol(name):
    assert name in reader_names()
    assert isinstance(registry._reader(name), SceneReader)
    assert registry._reader(name).name == name


@pytest.mark.parametrize(("name", "nearest"), [("scanet", "scannet"), ("SENS", "sens"), ("nerf-studio", "nerfstudio")])
def test_an_unknown_reader_suggests_the_nearest(tmp_path, name, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean '{nearest}'"):
        open_dataset(str(tmp_path), ReaderConfig(name=name))


def test_nothing_there_says_what_was_expected_and_found(tmp_path):
    with pytest.raises(DatasetError, match=r"it is empty.*transforms\.json"):
        open_dataset(str(tmp_path), ReaderConfig())
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"found photo\.jpg.*\.sens"):
        open_dataset(str(tmp_path), ReaderConfig())
    with pytest.raises(DatasetError, match=r"found photo\.jpg"):
        open_dataset(str(tmp_path), ReaderConfig(name="sens"))


@pytest.mark.parametrize("uri", ["nothing/here", "a\0b", "memory://nothing/here"])
@pytest.mark.parametrize("name", ["auto", "scannet", "sens", "nerfstudio"])
def test_a_folder_that_does_not_exist_is_named(uri, name):
    with pytest.raises(DatasetError, match="cannot be listed|holds no scene"):
        open_dataset(uri, ReaderConfig(name=name))


def test_a_glob_without_a_match_names_scenes_that_are_there(make, tmp_path):
    make.write_scannet(tmp_path / "scene1", make.make_views(1))
    with pytest.raises(DatasetError, match="matches 'room.*it has 1: scene1"):
        open_dataset(str(tmp_path), ReaderConfig(scenes="room*"))


def test_an_exported_folder_is_read_as_exported(make, tmp_path):
    views = make.make_views(1)
    make.write_scannet(tmp_path / "scene1", views)
    make.write_sens(tmp_path / "scene1", views)
    assert open_dataset(str(tmp_path), ReaderConfig())[0].reader == "scannet"
    assert open_dataset(str(tmp_path), ReaderConfig(name="sens"))[0].reader == "sens"


def test_errors_name_their_scene(make, tmp_path):
    root = make.write_transforms(tmp_path / "s1", make.make_views(1))
    (root / "transforms.json").write_text('{"fl_x": 1, "frames": [{}], "k1": 3}')
    (ref,) = open_dataset(str(tmp_path), ReaderConfig())
    with pytest.raises(DatasetError, match="scene 's1'"):
        load_scene(ref, ReaderConfig())


def test_a_reader_of_another_package_works_like_a_built_in_one(plugin, tmp_path):
    plugin("OneScene")
    assert reader_names()[-1] == "mine"
    (tmp_path / "mine").mkdir()
    for name in ("mine", "auto"):
        (ref,) = open_dataset(str(tmp_path / "mine"), ReaderConfig(name=name))
        assert load_scene(ref, ReaderConfig()) == Scene("only", ())


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("nothing", "cannot be loaded"), ("pytest", "cannot be loaded"), ("dict", "is not a scene reader")],
)
def test_a_broken_reader_of_another_package_is_named(plugin, tmp_path, attribute, message):
    globals()["dict"] = dict
    plugin(attribute)
    with pytest.raises(ConfigError, match=f"'mine'.*{message}"):
        open_dataset(str(tmp_path), ReaderConfig(name="mine"))
