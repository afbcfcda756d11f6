"""Errors: one tree, one line, and the same after a trip between processes."""

import pickle

import pytest

from schemas import errors
from schemas.errors import FrameError, Lift3DError, Reason

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Lift3DError)]


def make(kind):
    details = {"scene": "s1", "frame": "7", "remedy": "do this"}
    return kind(Reason.TIMEOUT, "it broke", **details) if kind is FrameError else kind("it broke", **details)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_says_where_what_and_what_to_do(kind):
    assert str(make(kind)) == "scene 's1', frame '7': it broke. do this"


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, "it broke"),
        ({"scene": "s"}, "scene 's': it broke"),
        ({"frame": "f", "remedy": "do"}, "frame 'f': it broke. do"),
    ],
)
def test_what_is_not_known_is_left_out(details, text):
    assert str(Lift3DError("it broke", **details)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_everything(kind):
    error = make(kind)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_is_the_tree(kind):
    lines = errors.__doc__.splitlines()
    depth = {line.strip(" │├└─").split()[0]: line.index(line.strip(" │├└─")) for line in lines if kind.__name__ in line}
    assert kind.__name__ in depth
    assert depth[kind.__name__] == 4 * (len(kind.__mro__) - len(Lift3DError.__mro__) + 1)


def test_exit_codes_are_those_of_the_commands():
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert codes.pop("ConfigError") == codes.pop("UnknownNameError") == codes.pop("MissingWeightsError") == 2
    assert set(codes.values()) == {1}


def test_reasons_are_stable_words():
    assert all(reason.value == reason.name.lower() for reason in Reason)
