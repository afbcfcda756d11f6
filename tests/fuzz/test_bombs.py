"""Small files that ask for much memory are refused before they get it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, list[str | None]]:
    """What each bomb is answered, and what is wrong with the answer, from one process with limited memory."""
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, str(HERE / "bombs.py"), str(tmp_path_factory.mktemp("bombs"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[str | None]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("png claims", "40000 x 40000 pixels, 1 to 100,000,000"),
        ("png unfolds", "would take 483 MB"),
        ("depth unfolds", "would take 483 MB"),
        ("palette unfolds", "would take 483 MB"),
        ("jpeg claims", "would take 483 MB"),
        ("zlib unfolds", "would take 483 MB"),
        ("zlib goes on", "bytes of samples, expected"),
        ("npy claims", "its header promises 4398046511104"),
        ("npy overflows", "its header promises 53169"),
        ("zstd unfolds", "is not zstd of (1, 9000, 9000)"),
        ("zstd claims", "is not zstd of (1048576, 9000, 9000)"),
        ("rows unfold", "claims 200,000 rows"),
        ("rows are checked", "claims 200,000 rows"),
        ("json unfolds", "which 36,000,0"),
        ("header claims", "a header of 1,099,511,627,776 bytes"),
    ],
)
def test_it_is_refused_within_its_memory(answers, name, told) -> None:
    answer, finding = answers[name]
    assert finding is None
    assert answer
    assert told in answer


def test_no_bomb_is_left_out(answers) -> None:
    assert len(answers) == 15
