"""`--license commercial` and what labels tell of the weights that they were made with."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from schemas.store import StoreMetadata
from tests.operators.hf_models import save_model

LOCAL = ("--engine", "local", "--set", "plan.chunk=64", "--set", "lift.sources=4")


def recorded(store: Path) -> list[dict[str, str]]:
    """Weights in the file-level metadata, which are those of the run's document."""
    file = next(store.rglob("labels/**/*.parquet"))
    told = StoreMetadata.from_arrow(pq.read_schema(file).metadata).provenance["weights"]
    documents = [json.loads(run.read_text()) for run in (store / "runs").glob("*.json")]
    (of_run,) = [own for document in documents if "operators" in document for own in document["operators"].values()]
    assert of_run["weights"] == told
    return told


def test_unknown_licences_are_refused_before_any_work_and_may_be_stated(lift3d, few, predictions, tmp_path):
    options = ["--operator", f"precomputed:{predictions}", "--set", "operator.kwargs.label_set=nyu40", *LOCAL]
    command = ["label", str(few), "--store", str(tmp_path / "store"), *options, "--lift", "none"]
    code, out, err = lift3d(*command, "--license", "commercial")
    assert code != 0 and not out and "licence of precomputed is unknown" in err and "weights_license" in err
    assert not list((tmp_path / "store").rglob("*.parquet"))
    code, _, err = lift3d(*command, "--license", "commercial", "--set", "operator.weights_license=cc-by-nc-4.0")
    assert code != 0 and "cc-by-nc-4.0" in err
    code, _, _ = lift3d(*command, "--license", "commercial", "--set", "operator.weights_license=own")
    assert code == 0 and recorded(tmp_path / "store") == [{"source": "precomputed", "license": "own"}]
    code, out, _ = lift3d(*command)
    assert code == 0 and json.loads(out.splitlines()[-1])["frames_labelled"] == 0, "a licence is no part of a label"


def test_a_model_folder_labels_a_room(lift3d, few, tmp_path):
    """End to end; the model's weights are random, so that only the plumbing is shown."""
    pytest.importorskip("transformers")
    folder = save_model(tmp_path / "tiny-segformer", "segformer")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    command = ["label", str(few), "--store", str(tmp_path / "store"), "--operator", f"hf:{folder}"]
    code, out, _ = lift3d(*command, *LOCAL, "--license", "commercial", "--set", "operator.kwargs.stride=4")
    summary = json.loads(out.splitlines()[-1])
    assert code == 0 and summary["frames_labelled"] == 3 and summary["frames_quarantined"] == 0
    assert recorded(tmp_path / "store") == [{"source": "hf:tiny-segformer", "license": "apache-2.0"}]


def test_operators_that_allow_commercial_use(lift3d):
    code, out, _ = lift3d("operators", "--license", "commercial")
    assert code == 0 and "indoor" in out and "unknown)" not in out
