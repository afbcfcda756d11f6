"""The store's commands as a user meets them."""

import json

import pytest

from pipeline.store import Store, read_labels
from pipeline.store.files import open_files

COMMANDS = ("validate", "vacuum", "compact", "diff", "tag", "rollback", "explain", "replay")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_it_understands(lift3d, command):
    code, out, _ = lift3d(command, "--help")
    assert code == 0 and f"Example: lift3d {command} " in " ".join(out.split())
    assert f"\n  {command} " in lift3d("--help")[1]


def test_a_stores_life_on_the_command_line(lift3d, versions, uri, again):
    assert lift3d("tag", uri, "first")[1].startswith("first ")
    again(versions, "bb")
    code, out, _ = lift3d("diff", uri, "--from-tag", "first", "--json")
    found = json.loads(out)
    assert code == 0 and (found["same"], found["other"]) == (9, 3) and found["transitions"][0]["pixels"] > 0
    assert "3 frames with another fingerprint" in lift3d("diff", uri, "--from-tag", "first")[1]
    assert "6 label files before, 2 now; 12 rows in 2 scenes" in lift3d("compact", uri)[1]
    assert "0 bytes in 0 files" in lift3d("vacuum", uri)[1]
    assert json.loads(lift3d("vacuum", uri, "--keep-days", "0", "--json")[1])["kept_for_tags"]["files"] == 6
    assert "12 frames of tag first are visible" in lift3d("rollback", uri, "first")[1]
    assert set(read_labels(uri)["run_id"]) == {"run-000"}
    rows = json.loads(lift3d("tag", uri, "--list", "--json")[1])
    assert [(row["name"], row["frames"], row["files"]) for row in rows] == [("first", 12, 6)]
    assert lift3d("tag", uri, "first", "--delete")[0] == 0 and lift3d("tag", uri, "--list")[1] == ""
    assert json.loads(lift3d("vacuum", uri, "--keep-days", "0", "--apply", "--json")[1])["applied"]
    assert not open_files(uri).list("_history")
    code, out, _ = lift3d("validate", uri)
    assert code == 0 and json.loads(out.splitlines()[-1])["problems"] == []
    code, out, _ = lift3d("explain", uri, "room", "0003")
    assert code == 0 and "fingerprint a-0003" in out and "command         not known" in out
    assert json.loads(lift3d("explain", uri, "room", "0003", "--json")[1])[0]["row"]["run_id"] == "run-000"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("vacuum", "nowhere"), 1, "there is no label store"),
        (("compact", "nowhere"), 1, "there is no label store"),
        (("diff", "nowhere"), 1, "there is no label store"),
        (("tag", "nowhere", "x"), 1, "there is no label store"),
        (("rollback", "{uri}", "x"), 1, "has no tag 'x'"),
        (("explain", "{uri}", "room", "77"), 1, "frame '77'"),
        (("replay", "{uri}", "room", "0001"), 1, "run-000.json is not there"),
        (("tag", "{uri}"), 2, "--list"),
        (("tag", "{uri}", "x", "--list"), 2, "--list"),
        (("vacuum", "{uri}", "--keep-days", "-1"), 2, "keep-days"),
        (("diff", "{uri}", "--from-tag", "x"), 1, "has no tag 'x'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_work_is_said_in_one_line(lift3d, uri, world, tmp_path, monkeypatch, arguments, code, text):
    store = Store(uri)
    store.prepare()
    world.label(store, "room", 2, 2)
    monkeypatch.chdir(tmp_path)
    found, out, err = lift3d(*(word.format(uri=uri) for word in arguments))
    assert found == code and out == "" and text in err and "Traceback" not in err


def test_a_damaged_store_is_exit_code_1_and_each_problem_has_a_line(lift3d, versions, uri):
    files = open_files(uri)
    path = next(iter(files.list("_commits")))
    files.delete(path)
    files.put("labels/readme.txt", b"hello")
    code, out, _ = lift3d("validate", uri)
    *lines, last = out.splitlines()
    assert code == 1 and len(lines) == 2 == len(json.loads(last)["problems"])
    assert any(line.startswith("labels/readme.txt: ") for line in lines)
