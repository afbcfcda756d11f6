"""Configuration: one tree, no key lost, every mistake named with its path."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import LabelingConfig, known_paths, override, parse_config
from schemas.errors import ConfigError

BASE = {"source": "data", "store": "labels"}


def message_of(values):
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    assert "lift3d schema config" in caught.value.remedy
    return str(caught.value)


def test_two_paths_are_enough():
    config = parse_config(BASE)
    assert (config.source, config.operator.spec, config.lift.method, config.engine.kind) == (
        "data",
        "indoor",
        "auto",
        "ray",
    )


def test_a_config_survives_json():
    config = parse_config({**BASE, "lift": {"sources": 12, "near": 0.1, "far": 5}, "operator": {"kwargs": {"a": [1]}}})
    assert parse_config(json.loads(config.model_dump_json())) == config


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse_config(BASE).lift.sources = 3


@pytest.mark.parametrize("path", known_paths())
def test_every_misspelt_key_names_itself_and_the_right_one(path):
    *parents, leaf = path.split(".")
    values = dict(BASE)
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
    node[f"{leaf}x"] = 1
    assert f"unknown key '{path}x', did you mean '{path}'?" in message_of(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"source": "a"}, "store is not set"),
        ({"source": "", "store": "b"}, "source"),
        ({**BASE, "lift": {"sources": 0}}, "lift.sources"),
        ({**BASE, "lift": {"near": float("inf")}}, "lift.near"),
        ({**BASE, "lift": {"self_weight": float("nan")}}, "lift.self_weight"),
        ({**BASE, "lift": {"near": 3.0, "far": 2.0}}, "near is 3 and far 2, near must be the smaller one"),
        ({**BASE, "lift": {"method": "magic"}}, "lift.method: Input should be 'auto', 'rgb', 'depth' or 'none'"),
        ({**BASE, "reader": None}, "reader"),
        ({**BASE, "reader": {"labels": "ade20k"}}, "reader.labels"),
        ({**BASE, "engine": {"workers": 1.5}}, "engine.workers"),
        ([], "top level"),
        (None, "top level"),
    ],
)
def test_a_bad_value_names_its_path(values, expected):
    assert expected in message_of(values)


def test_all_mistakes_are_told_at_once():
    message = message_of({"source": "a", "lift": {"planes": 1, "sampels": 2}})
    assert all(part in message for part in ("store is not set", "lift.planes", "did you mean 'lift.samples'"))


def test_a_huge_value_does_not_fill_the_screen():
    assert len(message_of({**BASE, "lift": {"planes": "x" * 100_000}, "y" * 100_000: 1})) < 1_000


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("lift.sources=12", ("lift", "sources"), 12),
        ("lift.weights=null", ("lift", "weights"), None),
        ("operator.spec=open_clip:ViT-B-16/laion", ("operator", "spec"), "open_clip:ViT-B-16/laion"),
        ("operator.kwargs.labels=[1, 2]", ("operator", "kwargs", "labels"), [1, 2]),
        ("reader.scenes=scene00*", ("reader", "scenes"), "scene00*"),
        ("source=a=b", ("source",), "a=b"),
        ("source=", ("source",), ""),
        (f"source={'[' * 9999}", ("source",), "[" * 9999),
        (f"source={'1' * 9999}", ("source",), "1" * 9999),
    ],
)
def test_a_setting_reaches_its_key_as_json_or_text(setting, path, value):
    values = override({"lift": {"planes": 8}}, [setting])
    for key in path:
        values = values[key]
    assert values == value


def test_settings_leave_their_neighbours_alone_and_the_last_one_counts():
    values = override({"lift": {"planes": 8}}, ["lift.sources=1", "lift.sources=2"])
    assert values == {"lift": {"planes": 8, "sources": 2}}


@pytest.mark.parametrize("setting", ["lift.sources", "=3", "", "lift.planes.x=1"])
def test_a_setting_of_another_form_is_refused(setting):
    with pytest.raises(ConfigError, match="--set") as caught:
        override({"lift": {"planes": 8}}, [setting])
    assert caught.value.remedy


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
@settings(max_examples=40, deadline=None)
def test_anything_is_a_config_or_a_config_error(values):
    try:
        config = parse_config(values)
    except ConfigError:
        return
    assert isinstance(config, LabelingConfig)


def test_every_key_is_documented():
    schema = LabelingConfig.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    fields = [(name, field) for section in sections for name, field in section.get("properties", {}).items()]
    assert not [name for name, field in fields if "description" not in field and "$ref" not in field]
    assert len(known_paths()) <= 35
