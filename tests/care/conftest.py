"""The small world of the store's tests, and a scene that was really labelled."""

import importlib.util
from pathlib import Path

import pytest

from pipeline.store.files import open_files


def _of(folder):
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_STORE, _CLI, _ENGINE = _of("store"), _of("cli"), _of("engine")
world, uri, store, s3, bucket = _STORE.world, _STORE.uri, _STORE.store, _STORE.s3, _STORE.bucket
lift3d, rooms, config = _CLI.lift3d, _ENGINE.rooms, _ENGINE.config


@pytest.fixture
def versions(store, world):
    """Two scenes of 6 frames in chunks of 2; frames 0000 to 0002 of `room` labelled again a day later."""
    for scene in ("room", "attic"):
        world.label(store, scene, 6, 2)
    return store


def relabel(store, world, version="b", number=1, frames=range(3), scene="room"):
    """Give some of a scene's six frames a later version."""
    world.write(store, world.pick(scene, 6, frames, version, staged=True), world.run(number))
    store.publish("indoor", scene)


@pytest.fixture
def again(world):
    """`relabel`, of this world."""
    return lambda store, *args, **named: relabel(store, world, *args, **named)


@pytest.fixture(scope="session")
def roomy_world():
    """The same world with images that are no thumbnails, so that labels outweigh what files say about themselves."""
    module = _of("store")
    module.H, module.W = 96, 128
    return module.World()


class Killed(BaseException):
    """Stands for the process's end."""


@pytest.fixture
def survives(monkeypatch):
    """`survives(module, uri, step, work)`: whether `work` ends without its `step`-th change of the store, its death."""

    def attempt(module, uri, step, work):
        files, left = open_files(uri), [step]

        def mortal(action):
            def act(*arguments):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return action(*arguments)

            return act

        for name in ("put", "move", "delete"):
            setattr(files, name, mortal(getattr(files, name)))
        with monkeypatch.context() as patch:
            patch.setattr(module, "open_store", lambda _: files)
            try:
                work()
            except Killed:
                return False
        return True

    return attempt
