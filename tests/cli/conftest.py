"""The command line in this process, and datasets made from the sample room."""

import shutil
from pathlib import Path

import pytest

from jobs.cli import main


@pytest.fixture
def lift3d(capsys):
    """Run the command line in this process: `lift3d(*arguments)` -> exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return run


@pytest.fixture
def few(sample_room: Path, tmp_path: Path) -> Path:
    """A copy of the sample room with its first views only."""
    copy = tmp_path / "few"
    shutil.copytree(sample_room, copy)
    for kind in ("color", "depth", "pose"):
        for file in (copy / "scene9002_00" / kind).iterdir():
            if int(file.stem) >= 3:
                file.unlink()
    return copy


@pytest.fixture
def broken_room(sample_room, tmp_path):
    """A copy of the sample room whose frame 3 has lost its pose."""
    copy = tmp_path / "room"
    shutil.copytree(sample_room, copy)
    (copy / "scene9002_00" / "pose" / "3.txt").write_text("\n".join(["-inf -inf -inf -inf"] * 4))
    return copy
