"""docs/monitoring.md names what there is, and nothing else."""

import re
from pathlib import Path

import pytest

from pipeline.run import run_labeling
from pipeline.store import read_run
from pipeline.telemetry.events import events_json_schema
from pipeline.telemetry.metrics import METRICS
from pipeline.telemetry.tally import IO_STAGES

TEXT = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def section(title):
    return re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def rows(title):
    """First cell -> second cell of a section's table, without its head."""
    found = [line.strip("| ").split(" | ") for line in section(title).splitlines() if line.startswith("| `")]
    return {cells[0]: cells[1] for cells in found}


def names(cell):
    return {name for part in re.findall(r"`([^`]+)`", cell) for name in re.split(r",\s*", part)}


def test_every_event_and_every_value_of_it_is_documented():
    documented = rows("Events")
    schemas = events_json_schema()["$defs"].values()
    actual = {
        one["properties"]["event"]["const"]: set(one["properties"]) for one in schemas if "event" in one["properties"]
    }
    assert {next(iter(names(event))) for event in documented} == set(actual)
    for event, cell in documented.items():
        values = names(cell.partition(";")[0].partition(":")[0])
        assert values | {"ts", "run_id", "event"} == actual[event.strip("`")]


def test_every_metric_is_documented():
    assert {name.strip("`") for name in rows("Metrics")} == set(METRICS)


def test_every_key_of_a_run_document_is_documented(settings):
    config = settings()
    document = read_run(config.store, run_labeling(config).run_id)
    assert {name for cell in rows("Run documents") for name in names(cell)} == document.keys()
    assert all(
        f"`{name}`" in section("Run documents") for name in [*document["split"], *IO_STAGES] if name != "labelling_s"
    )


@pytest.mark.parametrize("state", ["live", "stale", "finished", "failed", "interrupted"])
def test_every_state_is_documented(state):
    assert f"\n| {state} | " in section("lift3d status")
