"""The commands as a user meets them: exit codes, one-line errors, JSON on the last line of stdout."""

import json

import pytest

from jobs.cli import main

COMMANDS = (
    "label",
    "inspect",
    "validate",
    "evaluate",
    "operators",
    "doctor",
    "report",
    "schema",
    "status",
    "calibrate",
    "worklist",
)


def test_help_lists_every_command(lift3d):
    code, out, _ = lift3d("--help")
    assert code == 0
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_it_understands(lift3d, command):
    code, out, _ = lift3d(command, "--help")
    assert code == 0
    assert f"Example: lift3d {command}" in " ".join(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("paint",),
        ("label", "--colour", "red"),
        ("label", "--lift", "magic"),
        ("label", "--limit", "0"),
        ("label",),
        ("label", "scans", "--store", "labels", "--set", "lift.sorces=3"),
        ("label", "scans", "--store", "labels", "--config", "missing.yaml"),
        ("evaluate", "labels"),
        ("schema", "everything"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_code_2_and_no_traceback(lift3d, arguments):
    code, out, err = lift3d(*arguments)
    assert code == 2
    assert out == ""
    assert err
    assert "Traceback" not in err


def test_an_expected_error_is_one_line_with_the_remedy(lift3d, tmp_path):
    code, out, err = lift3d("label", "scans", "--store", tmp_path / "labels", "--set", "lift.sorces=3")
    assert (code, out) == (2, "")
    assert err.startswith("error: config: unknown key 'lift.sorces', did you mean 'lift.sources'?")
    assert err.count("\n") == 1


def test_debug_shows_where_an_error_came_from():
    from schemas.errors import ConfigError

    with pytest.raises(ConfigError):
        main(["label", "--debug", "scans", "--store", "labels", "--set", "lift.sorces=3"])


def test_schema_prints_every_key_with_its_meaning(lift3d):
    code, out, _ = lift3d("schema", "config")
    sections = json.loads(out)["$defs"]
    assert code == 0
    assert "LiftConfig" in sections
    assert all(p.get("description") for p in sections["LiftConfig"]["properties"].values())
    code, out, _ = lift3d("schema", "metadata")
    assert json.loads(out)["properties"]["codecs"]


def test_operators_lists_what_is_built_in(lift3d):
    code, out, _ = lift3d("operators")
    assert code == 0
    assert "precomputed:DIR" in out
    code, out, _ = lift3d("operators", "--json")
    assert {"name", "summary", "kind", "needs", "licence"} <= set(json.loads(out)[0])


def test_inspect_counts_what_the_sample_room_holds(lift3d, sample_room):
    code, out, _ = lift3d("inspect", sample_room, "--json")
    (scene,) = json.loads(out)
    assert code == 0
    assert (scene["scene"], scene["frames"], scene["with_depth"], scene["with_labels"]) == ("scene9002_00", 24, 24, 24)
    assert scene["sizes"] == {"320x240": 24}
    code, out, _ = lift3d("inspect", sample_room)
    assert "1 scenes, 24 usable frames" in out


def test_inspect_says_which_frames_are_set_aside_and_why(lift3d, broken_room):
    code, out, _ = lift3d("inspect", broken_room)
    assert code == 0
    assert "set aside: 1 x pose_not_finite (first: scene9002_00, frame 3: " in out
    assert "23 usable frames" in out


def test_inspect_of_nothing_is_an_error_that_says_what_was_expected(lift3d, tmp_path):
    code, out, err = lift3d("inspect", tmp_path)
    assert code == 1
    assert out == ""
    assert str(tmp_path) in err
    assert "Traceback" not in err


def test_doctor_checks_this_machine_and_the_store(lift3d, tmp_path):
    code, out, _ = lift3d("doctor", "--store", tmp_path / "labels", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 0
    assert checks["torch"]["status"] == checks["bfloat16"]["status"] == "ok"
    assert checks["store"]["status"] == "ok"
    assert not (tmp_path / "labels").exists()


def test_doctor_fails_where_the_named_cluster_does_not_answer(lift3d, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, out, _ = lift3d("doctor")
    assert code == 1
    assert "127.0.0.1:1 does not answer" in out
    assert "unset RAY_ADDRESS" in out
