"""Campaigns run in processes of their own, where a crash or a hang costs no other test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
"""Allocators that reserve address space ahead of need would be taken for memory that an input asks for."""


@pytest.fixture
def campaign(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs campaigns against some targets, in one process, and gives their reports. A death names the input."""

    def run(names: tuple[str, ...], count: int, seed: int, timeout_s: float) -> list[dict[str, Any]]:
        command = [sys.executable, str(HERE / "campaign.py"), ",".join(names), str(count), str(seed), str(tmp_path)]
        done = subprocess.run(
            command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        victim = names[len(reports)].partition(":")[0] if done.returncode else ""
        assert not done.returncode, f"it died of {tmp_path / victim / 'current'}\n{done.stderr[-2000:]}"
        return reports

    return run
