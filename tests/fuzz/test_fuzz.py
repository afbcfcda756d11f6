"""Mutated inputs of every parser: each ends in a sound value or in an error of ours, in time and within memory."""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from schemas.errors import StoreError

HERE = Path(__file__).parent
A_FEW = 36
FEWER = dict.fromkeys(("label_file", "metadata", "marker", "switch", "quarantine"), 10)
"""They read a whole store, or bring it back to order, each time."""
MANY = {"label_file": 500, "metadata": 500, "marker": 300, "switch": 400, "quarantine": 500, "pose": 400}
USUAL = 700


def load(name: str) -> ModuleType:
    """A module of the harness, as a campaign's process finds it."""
    if str(HERE) not in sys.path:
        sys.path.append(str(HERE))
    return importlib.import_module(name)


NAMES: tuple[str, ...] = load("targets").NAMES


def findings(reports: list[dict]) -> list[str]:
    return [f"{r['target']}: {text} ({file})" for r in reports for text, file in r["findings"].items()]


@pytest.mark.timeout(120)
def test_a_few_inputs_of_every_parser(campaign) -> None:
    reports = campaign(tuple(f"{name}:{FEWER[name]}" if name in FEWER else name for name in NAMES), A_FEW, 7, 110)
    assert not findings(reports)
    assert sum(report["inputs"] for report in reports) >= 500
    assert [report["target"] for report in reports] == list(NAMES)


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_ten_thousand_inputs(campaign) -> None:
    """The seed changes by the day, so that runs add up; a finding names its input."""
    seed = int(time.time() // 86_400)
    counts = {name: MANY.get(name, USUAL) for name in NAMES}
    assert sum(counts.values()) >= 10_000
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: campaign((name,), counts[name], seed, 800)[0], NAMES))
    assert not findings(found)
    for report in found:
        print(report)
        assert report["corpus"] > 3 or report["target"] == "marker", "nothing new was reached"


def failing(error: BaseException):
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (failing(KeyError("x")), "KeyError"),
        (failing(AssertionError("accepted garbage")), "accepted garbage"),
        (failing(StoreError("nothing to do about it")), "no remedy"),
        (failing(StoreError("Malloc of size 9 failed", remedy="buy memory")), "memory ran out"),
        (lambda: bytes(300 * 2**20), "MemoryError"),
    ],
    ids=["exception", "garbage", "no remedy", "swallowed", "memory"],
)
def test_the_judge_finds_what_is_wrong(action, told) -> None:
    assert told in (load("judge").judge(action, 1000) or "")


def test_the_judge_lets_pass_what_is_right() -> None:
    judge = load("judge").judge
    assert judge(failing(StoreError("damaged", remedy="delete it")), 1000) is None
    assert judge(lambda: bytes(100 * 2**20), 1000) is None


def test_a_hang_ends_the_process_within_the_limit(tmp_path) -> None:
    import subprocess

    script = "import judge; judge.LIMIT_S = 0.3; import re; judge.judge(lambda: re.match('(a*)*b', 'a' * 60), 1)"
    started = time.monotonic()
    path = {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    done = subprocess.run([sys.executable, "-c", script], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert time.monotonic() - started < 60


def test_coverage_sees_a_branch_once() -> None:
    from pipeline.picture import PictureError, read_header

    coverage = load("judge").Coverage()

    def read(data: bytes) -> bool:
        def action() -> None:
            with pytest.raises(PictureError):
                read_header(data)

        return coverage.run(action)

    assert read(b"")
    assert not read(b"x")
    assert read(b"\xff\xd8")


def test_mutations_are_reproducible_and_differ() -> None:
    from random import Random

    mutators = load("mutators")
    for mutate in (mutators.damage_bytes, mutators.damage_text, mutators.damage_json, mutators.damage_png):
        data = b'{"a": [1, 2, {"b": "c"}], "d": 5}'
        first, again = ([mutate(data, [data], random) for _ in range(50)] for random in (Random(1), Random(1)))
        assert first == again
        assert len(set(first)) > 25
