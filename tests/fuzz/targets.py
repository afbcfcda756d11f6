"""What is attacked: sound seeds, a mutator, and a run that asserts what an accepted input must satisfy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from mutators import Mutator

TESTS = Path(__file__).parents[1]
MODULES = {
    "target_scenes": ("sens", "transforms", "pose", "intrinsics"),
    "target_files": ("image", "depth_png", "label_png", "prediction_png", "prediction_npy", "checkpoint", "config"),
    "target_store": ("label_file", "metadata", "marker", "identity", "switch", "run", "quarantine"),
}
NAMES = tuple(name for names in MODULES.values() for name in names)


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        name: of the target.
        seeds: sound inputs.
        mutate: makes an input from one of the corpus.
        run: reads an input. Raises AssertionError where a value was accepted that should not have been.
    """

    name: str
    seeds: tuple[bytes, ...]
    mutate: Mutator
    run: Callable[[bytes], None]


def open_target(name: str, folder: Path) -> Target:
    """The target of that name, with its files in `folder`."""
    module = next(module for module, names in MODULES.items() if name in names)
    build: Callable[[Path], Target] = getattr(import_module(module), name)
    return build(folder)


def load_helpers(path: str) -> ModuleType:
    """A conftest of another folder of tests, as a module."""
    spec = spec_from_file_location(path.replace("/", "_"), TESTS / path / "conftest.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
