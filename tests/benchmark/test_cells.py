"""A benchmark that was stopped goes on; what changed or failed is measured again."""

import pytest

from pipeline.benchmark.cells import NOT_MEASURED, Cells
from schemas.errors import MissingWeightsError

LABELS = {"scene": "kitchen/1", "mode": "depth"}


class Work:
    """Counts how often it is done."""

    def __init__(self, error=None):
        self.times, self.error = 0, error

    def __call__(self):
        self.times += 1
        if self.error:
            raise self.error
        return {"miou": 0.5, "nothing": float("nan")}


@pytest.fixture
def cells(tmp_path):
    return Cells(tmp_path, {"contract": 1})


def test_a_finished_cell_is_read_and_not_measured_again(cells, tmp_path):
    work = Work()
    first = cells.measure("a", LABELS, {"sources": 8}, work)
    second = Cells(tmp_path, {"contract": 1}).measure("a", LABELS, {"sources": 8}, work)
    assert work.times == 1
    assert first == second == {"miou": 0.5, "nothing": None}


def test_a_key_of_tuples_is_the_same_after_a_round_trip(cells):
    work = Work()
    for _ in range(2):
        cells.measure("a", LABELS, {"targets": (1, 2), "noise": 1.0}, work)
    assert work.times == 1


@pytest.mark.parametrize(
    ("stamp", "key", "fresh"), [({"contract": 1}, 16, False), ({"contract": 2}, 8, False), ({"contract": 1}, 8, True)]
)
def test_another_setting_or_version_is_measured_again(cells, tmp_path, stamp, key, fresh):
    work = Work()
    cells.measure("a", LABELS, {"sources": 8}, work)
    Cells(tmp_path, stamp, fresh).measure("a", LABELS, {"sources": key}, work)
    assert work.times == 2
    assert len(list(Cells(tmp_path, stamp).all())) == 1


def test_what_cannot_be_measured_says_why_and_is_tried_again(cells):
    failing = Work(MissingWeightsError("there is no file net.bin", remedy="bring it"))
    assert cells.measure("b", LABELS, {}, failing) == {NOT_MEASURED: "there is no file net.bin. bring it"}
    assert cells.measure("b", LABELS, {}, Work())["miou"] == 0.5


def test_errors_that_are_no_answer_are_not_swallowed(cells):
    with pytest.raises(ZeroDivisionError):
        cells.measure("b", LABELS, {}, Work(ZeroDivisionError()))
    assert not list(cells.all())


def test_a_file_that_was_cut_short_is_measured_again(cells, tmp_path):
    work = Work()
    cells.measure("a", LABELS, {}, work)
    (path,) = (tmp_path / "cells" / "a").glob("*.json")
    path.write_bytes(path.read_bytes()[:40])
    assert not list(cells.all())
    cells.measure("a", LABELS, {}, work)
    assert work.times == 2
    assert [cell["labels"] for cell in cells.all()] == [LABELS]
