"""SPECs that nest: what they mean, that text and calls are the same thing, and that nonsense gets an answer."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.operators.spec import DEEPEST, LONGEST, Call, is_call, names_in, parse, render
from schemas.errors import ConfigError

NAMES = st.sampled_from(["indoor", "tta", "precomputed", "my_package.operators:Mine"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    # a word that reads as a number would come back as one; texts always come back, since they are written in quotes
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
ITEM_VALUES = VALUES.filter(lambda value: value is not None and not isinstance(value, bool))
OPTIONS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), VALUES, max_size=3)


def calls(inner: st.SearchStrategy[Call]) -> st.SearchStrategy[Call]:
    items = st.lists(inner | ITEM_VALUES, max_size=3).map(tuple)
    argument = st.none() | st.text(min_size=1, max_size=12)
    return st.builds(Call, NAMES, argument, items, OPTIONS).map(
        lambda call: Call(call.name, None, call.items, call.options) if "." in call.name else call
    )


@settings(deadline=None)
@given(call=st.recursive(NAMES.map(Call), calls, max_leaves=5))
def test_a_call_survives_text(call: Call) -> None:
    outer = Call("tta", None, (call,))
    if len(render(outer)) <= LONGEST:
        assert parse(render(outer)) == outer


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("indoor", Call("indoor")),
        (" dino:a(b), c.safetensors ", Call("dino", "a(b), c.safetensors")),
        ("my.package:Mine", Call("my.package:Mine")),
        ("indoor(; stride=28)", Call("indoor", None, (), {"stride": 28})),
        ("tta(indoor; flips)", Call("tta", None, (Call("indoor"),), {"flips": True})),
        (
            'cluster( dino , 8; note="a, (b)" )',
            Call("cluster", None, (Call("dino"), 8), {"note": "a, (b)"}),
        ),
        (
            "ensemble(indoor, precomputed:/data/x=1(; label_set=nyu40); weights=[2, 1])",
            Call(
                "ensemble",
                None,
                (Call("indoor"), Call("precomputed", "/data/x=1", (), {"label_set": "nyu40"})),
                {"weights": [2, 1]},
            ),
        ),
        ('tta(precomputed:"a (1); b")', Call("tta", None, (Call("precomputed", "a (1); b"),))),
        ("tta(s3:bucket:8/x)", Call("tta", None, (Call("s3", "bucket:8/x"),))),
    ],
)
def test_what_a_spec_means(text: str, meaning: Call) -> None:
    assert parse(text) == meaning


def test_the_names_of_everything_in_it() -> None:
    assert names_in("ensemble(indoor, tta(my.package:Mine(dino:x)))") == [
        "ensemble",
        "indoor",
        "tta",
        "my.package:Mine",
        "dino",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tta(indoor", "expected ',' or ';' or '\\)' at character 11, after 'tta\\(indoor', found the end"),
        ("tta(indoor))", "expected the end at character 12"),
        ("tta(indoor,)", "expected something after the comma"),
        ("tta(; 3)", "expected the name of an option at character 7"),
        ("tta(; a=1, a=2)", "expected option 'a' once only"),
        ("tta(; a=)", "expected a value"),
        ("tta(; a=1e999)", "expected finite numbers"),
        ("tta(; a=[1e999])", "expected finite numbers"),
        ("tta(; a=[NaN])", "expected a JSON value"),
        ('tta("open)', "expected a JSON value"),
        ("tta(in door)", "expected an operator's name at character 5"),
        ("tta(" * (DEEPEST + 2), f"at most {DEEPEST} brackets"),
        ("tta(" + "x" * LONGEST, "at most 4,000 are read"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse(text)


def test_a_class_of_ones_own_takes_brackets() -> None:
    spec = "own_models.deep:Nets.Small(; version=2)"
    assert is_call(spec)
    assert parse(spec) == Call("own_models.deep:Nets.Small", options={"version": 2})
    assert not any(map(is_call, ("precomputed:a.b(c)", "precomputed:v1.0:(x)", "own.module:Class", "a.b(c)")))


PIECES = st.sampled_from(
    ["tta", "(", ")", ";", ",", "=", '"', "[", "]", "{", "indoor", ":", ".", "1", "-", " ", "\\", "é"]
)


@settings(deadline=None)
@given(text=st.lists(PIECES, max_size=24).map("".join) | st.text(max_size=40))
@example("tta(" + "[" * 3000)
@example('tta(a:"' + "\\" * 100)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        call = parse(text)
    except ConfigError as error:
        assert error.remedy
        return
    if is_call(text):
        assert parse(render(call)) == call
        assert json.loads(json.dumps(dict(call.options), allow_nan=False)) == call.options
