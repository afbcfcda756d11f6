"""Options, --set and config files become one config; what cannot be used is refused with the remedy."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.settings import RAY_JOB_VARIABLE, labeling_config, located, reader_config
from schemas.config import known_paths
from schemas.errors import ConfigError

BASE = {"source": "/data/scans", "store": "/data/labels"}


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_options_win_over_set_and_set_wins_over_the_file(tmp_path, suffix):
    file = tmp_path / f"job{suffix}"
    values = {**BASE, "lift": {"sources": 3, "planes": 16, "method": "rgb"}}
    file.write_text(json.dumps(values) if suffix == ".json" else yaml.safe_dump(values))
    config = labeling_config(file, ["lift.sources=5", "lift.method=depth"], {"lift.method": "none", "lift.mode": None})
    assert (config.lift.planes, config.lift.sources, config.lift.method) == (16, 5, "none")
    assert config.lift.mode == "label"


@given(st.sampled_from(known_paths()))
def test_an_option_that_was_not_given_changes_nothing(path):
    assert labeling_config(None, None, {path: None, **BASE}) == labeling_config(None, None, BASE)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_the_last_setting_of_a_key_counts(first, second, option):
    settings = [f"lift.sources={first}", f"lift.sources={second}"]
    assert labeling_config(None, settings, BASE).lift.sources == second
    assert labeling_config(None, settings, {**BASE, "lift.sources": option}).lift.sources == option


def test_a_default_reader_yields_to_every_other_source_of_values(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("reader: {name: sens}")
    assert labeling_config(None, None, BASE, "scannet").reader.name == "scannet"
    assert labeling_config(file, None, BASE, "scannet").reader.name == "sens"
    assert labeling_config(None, ["reader.name=sens"], BASE, "scannet").reader.name == "sens"
    assert labeling_config(None, None, {**BASE, "reader.name": "sens"}, "scannet").reader.name == "sens"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2", "holds a list, expected sections"),
        ("lift: [", "neither plain YAML nor JSON"),
        ("lift: {sorces: 3}", "did you mean 'lift.sources'"),
        ("lift: 3", "lift"),
        ("lift: {sources: 0}", "lift.sources: Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_file_is_refused_by_what_is_wrong_in_it(tmp_path, text, message):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        labeling_config(file, None, BASE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*No such file"):
        labeling_config(tmp_path / "none.yaml", None, BASE)


@pytest.mark.parametrize("missing", ["source", "store"])
def test_source_and_store_are_asked_for(missing):
    with pytest.raises(ConfigError, match=f"no {missing} was given.*SOURCE --store URI"):
        labeling_config(None, None, {**BASE, missing: None})


def test_local_paths_become_absolute_and_uris_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("scans", "source") == str(tmp_path / "scans")
    assert located("s3://bucket/scans", "source") == "s3://bucket/scans"
    assert located("zip://scene::s3://bucket/scans.zip", "source").startswith("zip://")


@pytest.mark.parametrize("name", ["source", "store"])
def test_relative_paths_are_refused_in_a_submitted_job(monkeypatch, name):
    monkeypatch.setenv(RAY_JOB_VARIABLE, "{}")
    assert labeling_config(None, None, BASE).store == "/data/labels"
    with pytest.raises(ConfigError, match=f"{name} 'here' is a relative path.*absolute path"):
        labeling_config(None, None, {**BASE, name: "here"})


def test_readers_are_configured_the_same_way_without_a_store():
    config = reader_config(
        ["reader.labels=raw", "reader.label_tsv=labels.tsv"], "scannet", scenes="scene0*", limit=None
    )
    assert (config.name, config.scenes, config.labels, config.limit) == ("scannet", "scene0*", "raw", None)
    with pytest.raises(ConfigError, match="unknown key 'reader.label'"):
        reader_config(["reader.label=raw"], None)
