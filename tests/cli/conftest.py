"""Datasets and predictions made from the sample room."""

import shutil

import pytest


@pytest.fixture
def broken_room(sample_room, tmp_path):
    """A copy of the sample room whose frame 3 has lost its pose."""
    copy = tmp_path / "room"
    shutil.copytree(sample_room, copy)
    (copy / "scene9002_00" / "pose" / "3.txt").write_text("\n".join(["-inf -inf -inf -inf"] * 4))
    return copy
