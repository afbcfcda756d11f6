"""Means over scenes, Markdown, and the section of a document that the tool writes."""

import json

import pytest

from pipeline.benchmark.label_tables import ablation_tables, confidence_tables, noise_tables, operator_tables
from pipeline.benchmark.table import BEGIN, END, Score, Table, replace_section, score
from schemas.errors import ConfigError


def test_scores_are_means_with_the_spread_over_scenes():
    assert score([0.2, None, 0.4, float("nan")]) == Score(pytest.approx(0.3), pytest.approx(0.02**0.5), 2)
    assert str(score([0.2, 0.4])) == "0.300 ± 0.141"
    assert str(score([0.25])) == "0.250"
    assert score([None]) is None


def test_markdown_has_one_cell_a_column_whatever_the_text():
    table = Table("Rooms", ("labels", "mIoU"), (("a | b\nc", Score(0.5, None, 1)), ("x", None)))
    lines = table.markdown().splitlines()
    assert lines == ["#### Rooms", "", "| labels | mIoU |", "| --- | --- |", "| a / b c | 0.500 |", "| x | - |"]
    assert json.loads(json.dumps(table.to_json()))["rows"][1] == {"labels": "x", "mIoU": None}


def test_only_the_marked_section_is_replaced(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN.format(name='s')}\nold\n{END.format(name='s')}\nafter\n")
    for _ in range(2):
        replace_section(document, "s", "new")
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("new") == 1


def test_a_document_without_the_section_is_refused_and_kept(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("nothing here\n")
    with pytest.raises(ConfigError, match="no lines"):
        replace_section(document, "s", "new")
    assert document.read_text() == "nothing here\n"
    with pytest.raises(ConfigError, match="cannot be read"):
        replace_section(tmp_path / "absent.md", "s", "new")


def _lifted(scene, miou, **labels):
    histogram = [[0, 0]] * 128 + [[miou * 100, 100 - miou * 100]] + [[0, 0]] * 127
    values = {"miou": miou, "accuracy": 0.9, "boundary_f1": 0.5, "consistency": 1.0, "confidence": histogram}
    return {"labels": {"group": "rooms", "scene": scene, "what": "lift", **labels}, "values": values}


def _competitors(scene, miou):
    rows = {"raw": {"miou": miou}, "z-test vote, 4 views": {"miou": 0.6}, "z-test vote, 8 views": {"miou": 0.7}}
    return {
        "labels": {"group": "rooms", "scene": scene, "what": "competitors"},
        "values": {"0.0": rows, "1.0": rows},
    }


def _shown(table, *names):
    rows = table.to_json()["rows"]
    return [tuple(row[name]["mean"] if isinstance(row[name], dict) else row[name] for name in names) for row in rows]


def test_noise_table_averages_scenes_and_puts_what_there_is_to_beat_first():
    at = {"mode": "depth", "sources": 8}
    cells = [_lifted("a", 0.8, noise=1.0, **at), _lifted("b", 0.6, noise=1.0, **at), _lifted("a", 0.9, noise=0.0, **at)]
    (table,) = noise_tables([*cells, _competitors("a", 0.3), _competitors("b", 0.5)])
    assert _shown(table, "noise", "labels", "sources", "mIoU", "scenes") == [
        ("clean", "raw", "", 0.4, 2),
        ("clean", "z-test vote, nearest views", 8, pytest.approx(0.7), 2),
        ("clean", "lift, depth", 8, 0.9, 1),
        ("1", "raw", "", 0.4, 2),
        ("1", "z-test vote, nearest views", 8, pytest.approx(0.7), 2),
        ("1", "lift, depth", 8, pytest.approx(0.7), 2),
    ]


def test_what_was_not_measured_stays_in_the_table():
    missing = {"labels": {"group": "rooms", "scene": "a", "what": "competitors", "operator": "net"}}
    (table,) = operator_tables([{**missing, "values": {"not_measured": "no weights"}}])
    assert "not measured: no weights" in table.markdown()


def test_ablations_come_in_their_own_order():
    at = {"mode": "rgb", "sources": 8, "noise": 1.0}
    cells = [_lifted("a", 0.5, **{**at, "what": what}) for what in ("corrector off", "checkpoint off", "full lift")]
    (table,) = ablation_tables(cells)
    assert [row[0] for row in table.rows] == ["full lift", "corrector off", "checkpoint off"]


def test_confidence_is_read_off_the_lifted_cells():
    at = {"mode": "depth", "sources": 8, "noise": 1.0}
    (table,) = confidence_tables([_lifted("a", 0.5, **at), _lifted("b", 0.5, **at), _competitors("a", 0.3)])
    ((dataset, ece, after, scenes),) = _shown(table, "dataset", "ECE", "ECE after", "scenes")
    assert (dataset, scenes) == ("rooms", 2)
    assert ece == pytest.approx(0, abs=0.01)
    assert after == pytest.approx(0, abs=0.01)
