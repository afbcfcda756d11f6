"""Imports go one way: schemas <- lift3d_model <- pipeline <- jobs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"schemas", "lift3d_model", "pipeline", "jobs"}
MAY_IMPORT = {
    "schemas": {"schemas"},
    "lift3d_model": {"lift3d_model"},
    "pipeline": {"schemas", "lift3d_model", "pipeline"},
    "jobs": {"schemas", "pipeline", "jobs"},
}
THIRD_PARTY = {
    "schemas": {"numpy", "pydantic", "pyarrow"},
    "lift3d_model": {"numpy", "torch"},
}


def _top(name):
    return name.partition(".")[0]


def test_our_packages_import_in_one_direction_only(modules):
    wrong = [
        f"{module.name} imports {name}"
        for module in modules
        for name in module.imports()
        if _top(name) in OURS and _top(name) not in MAY_IMPORT[_top(module.package)]
    ]
    assert not wrong


@pytest.mark.parametrize("package", sorted(THIRD_PARTY))
def test_data_and_model_packages_need_few_libraries(modules, package):
    known = THIRD_PARTY[package] | sys.stdlib_module_names | OURS
    wrong = [
        f"{module.name} imports {name}"
        for module in modules
        for name in module.imports()
        if _top(module.package) == package and _top(name) not in known
    ]
    assert not wrong


def test_ray_is_imported_late_and_only_above_the_model(modules):
    eager = [m.name for m in modules if "ray" in map(_top, m.imports(at_module_level=True))]
    assert all(name.startswith("pipeline.engines") for name in eager), eager
    assert not [m.name for m in modules if m.package == "schemas" and "ray" in map(_top, m.imports())]


def test_imports_are_absolute(modules):
    relative = [
        f"{module.name}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def _package_edges(modules):
    """Edges between packages (`pipeline.store` -> `schemas`), lazy imports included, TYPE_CHECKING too."""
    names = {module.name for module in modules}
    packages = {module.package for module in modules}
    edges = set()
    for module in modules:
        for name in module.imports():
            target = name if name in names else name.rpartition(".")[0]
            if target in names:
                home = target if target in packages else target.rpartition(".")[0]
                edges.add((module.package, home))
    return {(a, b) for a, b in edges if a != b and not (a.startswith(b) or b.startswith(a))}


def test_no_cycle_between_packages(modules):
    waiting = _package_edges(modules)
    while waiting:
        leaves = {b for _, b in waiting} - {a for a, _ in waiting}
        assert leaves, f"import cycle among {sorted(waiting)}"
        waiting = {(a, b) for a, b in waiting if b not in leaves}


def test_no_cycle_between_modules_when_they_are_imported(modules):
    names = {module.name for module in modules}
    waiting = set()
    for module in modules:
        for name in module.imports(at_module_level=True):
            target = name if name in names else name.rpartition(".")[0]
            if target in names and target != module.name:
                waiting.add((module.name, target))
    while waiting:
        leaves = {b for _, b in waiting} - {a for a, _ in waiting}
        assert leaves, f"import cycle among {sorted(waiting)}"
        waiting = {(a, b) for a, b in waiting if b not in leaves}


def _modules_after(code):
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {_top(name) for name in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import schemas", {"torch", "ray", "pandas", "cv2"}),
        ("import pipeline", {"torch", "ray", "pandas", "pyarrow", "cv2", "numpy"}),
        ("import jobs.cli", {"torch", "ray", "pandas", "pyarrow", "cv2", "numpy", "pydantic", "timm"}),
        (
            "import jobs.cli\ntry:\n    jobs.cli.main(['--help'])\nexcept SystemExit:\n    pass",
            {"torch", "ray", "pandas", "pyarrow", "cv2", "numpy", "pydantic", "timm"},
        ),
    ],
    ids=["schemas", "pipeline", "cli", "help"],
)
def test_start_up_imports_nothing_heavy(code, heavy):
    assert not _modules_after(code) & heavy


def test_a_foreign_package_of_our_name_is_refused_by_name(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    script = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import jobs"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "package 'pipeline' is" in done.stderr
    assert "expected Lift3D's" in done.stderr


def test_every_name_that_pipeline_offers_can_be_imported():
    import pipeline

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing
    assert {"Labeler", "run_labeling", "read_labels"} <= set(dir(pipeline))
    assert all(getattr(pipeline, name) is not None for name in dir(pipeline))
