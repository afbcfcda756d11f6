"""Names, paths and arguments: every mistake in a SPEC gets an answer that helps."""

import sys
from pathlib import Path

import pytest

from pipeline.operators import build_operator, list_operators
from pipeline.reach import check_operator_known
from schemas.errors import ConfigError, ContractError, OperatorError, UnknownNameError

MODULE = """
class Good:
    name, stride, kind, label_set = "good", 4, "scalar", None

    def __init__(self, gain: float = 1.0, device: str = "cpu"):
        self.gain, self.device = gain, device

    def encode(self, batch): return batch.images.mean(1, keepdim=True)[..., ::4, ::4]
    def decode(self, features, size): return features
    def fingerprint(self): return f"good {self.gain}"

class NoDecode:
    name, stride, kind, label_set = "bad", 4, "scalar", None
    def encode(self, batch): ...
    def fingerprint(self): return ""

class BadStride(Good):
    stride = 2.5

class NoLabelSet(Good):
    kind = "classes"

class Broken(Good):
    def __init__(self): raise ValueError("no luck")

NUMBER = 3
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An importable package `plug.ops` that a user could have written."""
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "__init__.py").write_text("")
    (tmp_path / "plug" / "ops.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("plug", "plug.ops"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_lists_the_built_in_operators() -> None:
    names = [info.name.split(":")[0].split("[")[0] for info in list_operators()]
    assert {"indoor", "precomputed", "dino", "open_clip"} <= set(names)
    assert all(info.summary and info.kind and info.needs and info.licence for info in list_operators())


@pytest.mark.usefixtures("plugins")
def test_builds_a_class_by_its_python_path_and_passes_kwargs_and_device() -> None:
    operator = build_operator("plug.ops:Good", {"gain": 2.0}, device="meta")
    assert (operator.name, operator.fingerprint()) == ("good", "good 2.0")
    assert vars(operator)["device"] == "meta"


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("spec", ["python:plug.ops:Good", "python:flat_ops:Good"])
def test_python_is_an_explicit_prefix_of_a_class(spec: str, tmp_path: Path) -> None:
    """It is what a module without a dot needs, alone, in brackets, and before a run begins."""
    (tmp_path / "flat_ops.py").write_text(MODULE)
    sys.modules.pop("flat_ops", None)
    assert build_operator(spec, {"gain": 2.0}).fingerprint() == "good 2.0"
    assert len({build_operator(f"tta({spec}(; gain={gain}); flips)").fingerprint() for gain in (1, 2)}) == 2
    check_operator_known(spec)
    check_operator_known(f"tta({spec}; flips)")
    for wrong in ("python", "python:", "python:plug.ops", "python:plug ops:Good"):
        with pytest.raises(ConfigError, match="package.module:Class"):
            build_operator(wrong)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("indor", "'indoor'"), ("openclip:a/b", "'open_clip'"), ("Precomputed:x", "'precomputed'"), ("", "known:")],
)
def test_unknown_names_get_the_nearest_one(spec: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=hint):
        build_operator(spec)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("spec", "kwargs", "error", "says"),
    [
        ("plug.ops:Good", {"gian": 1}, ConfigError, "takes: gain"),
        ("plug.ops:Good", {"device": "cpu"}, ConfigError, "engine.device"),
        ("plug.ops:Absent", {}, OperatorError, "has no attribute 'Absent'"),
        ("plug.absent:Good", {}, OperatorError, "PYTHONPATH"),
        ("plug.ops:NUMBER", {}, ConfigError, "expected a class"),
        ("plug.ops:a b", {}, ConfigError, "package.module:Class"),
        ("plug.ops:", {}, ConfigError, "package.module:Class"),
        ("plug.ops:Broken", {}, OperatorError, "ValueError: no luck"),
        ("plug.ops:NoDecode", {}, ContractError, "lacks decode()"),
        ("plug.ops:BadStride", {}, ContractError, "stride is 2.5"),
        ("plug.ops:NoLabelSet", {}, ContractError, "label_set is None"),
        ("precomputed", {}, ConfigError, "directory"),
    ],
)
def test_mistakes_are_named(spec: str, kwargs: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        build_operator(spec, kwargs)
    assert says in str(caught.value)
