"""`lift3d label` and what follows it, on the sample room: resume, quarantine, validate, evaluate, report, interrupt."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest


@pytest.fixture
def options(predictions):
    """Options of a quick run: the room's own ground truth as predictions, nothing lifted."""
    spec = f"precomputed:{predictions}"
    return ["--operator", spec, "--set", "operator.kwargs.label_set=nyu40", "--engine", "local", "--lift", "none"]


def _last_line(out):
    return json.loads(out.splitlines()[-1])


def test_a_store_is_labelled_resumed_validated_evaluated_and_reported(lift3d, sample_room, options, tmp_path):
    store = tmp_path / "labels"
    code, out, _ = lift3d("label", sample_room, "--store", store, *options, "--dry-run")
    assert code == 0
    assert (_last_line(out)["frames_to_do"], store.exists()) == (24, False)

    code, out, _ = lift3d("label", sample_room, "--store", store, *options)
    summary = _last_line(out)
    assert code == 0
    assert (summary["frames_labelled"], summary["frames_resumed"], summary["frames_quarantined"]) == (24, 0, 0)
    assert set(summary) == {
        *("run_id", "scenes", "frames_labelled", "frames_resumed"),
        *("frames_quarantined", "wall_s", "frames_per_s", "store"),
    }
    assert len(pd.read_parquet(store / "labels")) == 24

    code, out, _ = lift3d("label", sample_room, "--store", store, *options)
    assert code == 0
    assert (_last_line(out)["frames_labelled"], _last_line(out)["frames_resumed"]) == (0, 24)

    code, out, _ = lift3d("validate", store)
    assert code == 0
    assert (_last_line(out)["ok"], _last_line(out)["frames"]) == (True, 24)

    code, out, _ = lift3d("evaluate", store, "--gt", sample_room, "--no-baselines", "--json")
    assert code == 0
    assert _last_line(out)["rows"]["lifted"]["overall"]["miou"] == 1.0

    page = tmp_path / "report.html"
    code, out, _ = lift3d("report", store, "--out", page)
    assert code == 0
    assert out.strip() == str(page)
    assert "scene9002_00" in page.read_text()


def test_a_plan_says_why_and_quarantined_frames_alone_are_retried(lift3d, broken_room, sample_room, options, tmp_path):
    store = tmp_path / "labels"
    code, out, _ = lift3d("label", broken_room, "--store", store, *options, "--explain-plan")
    assert (code, store.exists()) == (0, False)
    assert "0 as they should be\n    23 new: 0, 1, 2, 4, " in out
    assert "1 cannot be used (lift3d inspect says why)" in out

    assert lift3d("label", broken_room, "--store", store, *options)[0] == 3
    _, out, _ = lift3d("label", sample_room, "--store", store, *options, "--explain-plan")
    (scene,) = _last_line(out)["scenes"]
    assert (scene["resumed"], scene["reasons"]) == (23, {"in quarantine (pose_not_finite)": ["3"]})

    code, out, _ = lift3d("label", sample_room, "--store", store, *options, "--retry-quarantined")
    assert (code, _last_line(out)["frames_labelled"], _last_line(out)["frames_resumed"]) == (0, 1, 23)
    assert len(pd.read_parquet(store / "labels")) == 24


def test_frames_that_cannot_be_labelled_give_exit_code_3(lift3d, broken_room, options, tmp_path):
    code, out, _ = lift3d("label", broken_room, "--store", tmp_path / "labels", *options)
    assert code == 3
    assert (_last_line(out)["frames_labelled"], _last_line(out)["frames_quarantined"]) == (23, 1)


def test_validate_names_what_is_damaged(lift3d, sample_room, options, tmp_path):
    store = tmp_path / "labels"
    lift3d("label", sample_room, "--store", store, *options)
    file = next((store / "labels").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    code, out, _ = lift3d("validate", store)
    assert code == 1
    assert not _last_line(out)["ok"]
    assert file.name in out.splitlines()[0]


@pytest.mark.parametrize("command", ["validate", "evaluate", "report"])
def test_a_store_that_is_not_there_is_an_error_of_one_line(lift3d, sample_room, tmp_path, command):
    more = ["--gt", sample_room] if command == "evaluate" else []
    code, out, err = lift3d(command, tmp_path / "nothing", *more)
    assert code in {1, 2}
    assert out == ""
    assert str(tmp_path / "nothing") in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_can_be_resumed(lift3d, sample_room, options, tmp_path, signal_):
    store = tmp_path / "labels"
    command = [sys.executable, "-m", "jobs.cli", "label", sample_room, "--store", store, *options]
    more = ["--set", "plan.chunk=1"]
    running = subprocess.Popen([*map(str, command), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not list(store.glob("labels/*/*/*.parquet")):
        time.sleep(0.01)
    running.send_signal(signal_)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    code, out, _ = lift3d("label", sample_room, "--store", store, *options, *more)
    assert code == 0
    assert _last_line(out)["frames_resumed"] >= 1
    assert _last_line(out)["frames_labelled"] + _last_line(out)["frames_resumed"] == 24
