"""Runs that are killed at random, with random faults, and run again until they end: the store is that of a clean run.

LIFT3D_CHAOS_RUNS says how many (2 unless told), LIFT3D_CHAOS_SEED where to begin.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
RUNS = int(os.environ.get("LIFT3D_CHAOS_RUNS", "2"))
SEED = int(os.environ.get("LIFT3D_CHAOS_SEED", "2"))
A_RUN_S = 300


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    """The campaign, as its own command finds it."""
    if str(HERE) not in sys.path:
        sys.path.append(str(HERE))
    return importlib.import_module("chaos_campaign")


@pytest.mark.chaos
@pytest.mark.ray
@pytest.mark.timeout(A_RUN_S * (RUNS + 1))
def test_killed_runs_end_in_the_store_of_a_clean_run(
    harness: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels, confidence and quarantine keys are equal; only what a kill or a fault interrupted was begun again."""
    seeds = range(SEED, SEED + RUNS)
    with harness.campaign(tmp_path, seeds) as campaign:
        outcomes = [campaign.run(harness.Plan.draw(seed)) for seed in seeds]
    kills = sum(bool(outcome.killed) for outcome in outcomes)
    with capsys.disabled():
        print(f"\n{len(outcomes)} runs, {kills} kills, {sum(outcome.rows for outcome in outcomes)} rows compared")
    assert kills > len(outcomes) // 2, "the runs were over before they could be killed"
    assert all(outcome.exact for outcome in outcomes), outcomes
