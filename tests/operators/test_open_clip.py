"""Dense CLIP. The weights here are random: these tests are about plumbing and arithmetic, never about quality."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.open_clip_dense import dense_tokens
from pipeline.operators.prompts import vocabulary
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

open_clip = pytest.importorskip("open_clip")
MODEL = "tiny-clip-for-tests"
CONFIG = """{"embed_dim": 32,
 "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 16, "patch_size": 16},
 "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}"""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint file of a small randomly initialised CLIP, known to open_clip by name."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / f"{MODEL}.json").write_text(CONFIG)
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL)
    torch.save(model.state_dict(), folder / "weights.pt")
    return str(folder / "weights.pt")


def build(checkpoint: str, **kwargs: object) -> Any:
    return build_operator(f"open_clip:{MODEL}/{checkpoint}", {"prompts": ["chair", "table"], **kwargs})


@pytest.mark.parametrize("attention", ["clearclip", "maskclip", "sclip", "full"])
def test_scores_on_the_grid_for_any_image_size(checkpoint: str, make_batch: Any, attention: str) -> None:
    operator = build(checkpoint, attention=attention)
    batch = make_batch((2, 70, 100))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert features.shape == (2, 32, 5, 7)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 5, 7))
    assert torch.equal(features[1:], operator.encode(make_batch(batch.images[1:]))), "features depend on the batch"
    scores = operator.decode(features, (70, 100))
    check_decoded(operator, scores, (70, 100), 2)
    torch.testing.assert_close(scores.sum(1), torch.ones(2, 70, 100))


def test_the_unchanged_path_is_encode_image(checkpoint: str) -> None:
    model = open_clip.create_model(MODEL, pretrained=checkpoint).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = dense_tokens(model.visual, images, "full")
        torch.testing.assert_close(tokens[:, 0], model.encode_image(images), atol=1e-4, rtol=1e-4)
        for changed in ("clearclip", "maskclip", "sclip"):
            assert not torch.allclose(dense_tokens(model.visual, images, changed), tokens, atol=1e-3)


def test_pixels_that_background_suits_best_say_nothing(checkpoint: str, make_batch: Any) -> None:
    batch, size = make_batch((2, 64, 96)), (64, 96)
    plain = build(checkpoint, prompts=["chair", "table", "sky", "void"])
    operator = build(checkpoint, background=["sky", "void"])
    assert operator.label_set.names == ("chair", "table") and operator.label_set.ignore_id == 0
    theirs = plain.decode(plain.encode(batch), size)
    ours = operator.decode(operator.encode(batch), size)
    nothing = theirs[:, 2:].amax(1) > theirs[:, :2].amax(1)
    assert 0 < nothing.float().mean() < 1
    torch.testing.assert_close(ours, torch.where(nothing[:, None], 0, theirs[:, :2]))
    assert operator.fingerprint() != build(checkpoint).fingerprint()


def test_no_background_leaves_fingerprints_as_they_were() -> None:
    words = vocabulary(["chair"], None, ["a {}"])
    assert words.told() == words.model_dump_json(include={"label_set", "sentences"})
    assert "sky" in vocabulary(["chair"], None, ["a {}"], ["sky"]).told()


def test_every_changed_block_is_its_formula(checkpoint: str) -> None:
    """The last block, computed again in plain matrices of one head at a time."""
    model = open_clip.create_model(MODEL, pretrained=checkpoint).eval()
    visual, images = model.visual, torch.randn(1, 3, 64, 64)
    *blocks, last = visual.transformer.resblocks
    with torch.inference_mode():
        x = visual._embeds(images)
        for block in blocks:
            x = block(x)
        found = {name: dense_tokens(visual, images, name) for name in ("maskclip", "clearclip", "sclip", "full")}
        attention, mixed = last.attn, {name: [] for name in found}
        width, heads = x.shape[-1], attention.num_heads
        q, k, v = (last.ln_1(x)[0] @ attention.in_proj_weight.T + attention.in_proj_bias).split(width, dim=-1)
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            a, b, c = q[:, part], k[:, part], v[:, part]
            scale = (width / heads) ** 0.5
            qq, kk, qk = ((m @ n.T / scale).softmax(-1) for m, n in ((a, a), (b, b), (a, b)))
            for name, weights in {"maskclip": torch.eye(len(a)), "clearclip": qq, "sclip": qq + kk, "full": qk}.items():
                mixed[name].append(weights @ c)
        for name, parts in mixed.items():
            out = attention.out_proj(torch.cat(parts, -1))
            if name in ("sclip", "full"):
                out = x[0] + out
                out = out + last.mlp(last.ln_2(out))
            expected = visual.ln_post(out) @ visual.proj
            torch.testing.assert_close(found[name][0], expected, atol=1e-4, rtol=1e-4)


def test_fingerprints_follow_words_and_settings(checkpoint: str) -> None:
    first = build(checkpoint).fingerprint()
    others = [{"prompts": ["chair", "sofa"]}, {"attention": "sclip"}, {"stride": 8}, {"templates": ["a {}"]}]
    prints = {first, *(build(checkpoint, **kwargs).fingerprint() for kwargs in others)}
    assert len(prints) == 5 and build(checkpoint).fingerprint() == first


@pytest.mark.parametrize(
    ("weights", "kwargs", "error", "says"),
    [
        ("ViT-B-32", {}, ConfigError, "MODEL/PRETRAINED"),
        ("ViT-B-32//absent/weights.pt", {}, MissingWeightsError, "without internet"),
        ("ViT-B-32/laion2b_s34b_b79k", {}, MissingWeightsError, "without internet"),
        ("ViT-B-32/absent_tag", {}, MissingWeightsError, "absent_tag"),
        (f"{MODEL}/FILE", {"attention": "magic"}, ConfigError, "clearclip"),
        (f"{MODEL}/FILE", {"prompts": None}, ConfigError, "nothing to look for"),
        (f"{MODEL}/FILE", {"label_set": "nyu40", "prompts": ["spaceship"]}, ConfigError, "spaceship"),
        (f"{MODEL}/FILE", {"label_set": "nyu4"}, UnknownNameError, "nyu40"),
        (f"{MODEL}/FILE", {"templates": ["no slot"]}, ConfigError, "templates"),
        ("RN50/FILE", {}, MissingWeightsError, "cannot load"),
    ],
)
def test_mistakes_never_end_in_random_weights(
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    kwargs: dict[str, object],
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=says):
        build_operator(f"open_clip:{weights.replace('FILE', checkpoint)}", {"prompts": ["chair"], **kwargs})


def test_other_architectures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny-rn.json").write_text(CONFIG.replace('"layers": 3', '"layers": [1, 1, 1, 1]'))
    open_clip.add_model_config(tmp_path)
    torch.save(open_clip.create_model("tiny-rn").state_dict(), tmp_path / "rn.pt")
    with pytest.raises(ConfigError, match="no plain CLIP transformer"):
        build_operator(f"open_clip:tiny-rn/{tmp_path}/rn.pt", {"prompts": ["chair"]})


def test_vocabularies() -> None:
    free = vocabulary({"seat": ["chair", "stool"], "desk": "desk"}, None, ["a {}", "one {}"])
    assert free.label_set.ids == (1, 2) and free.label_set.names == ("seat", "desk")
    assert free.sentences == (("a chair", "one chair", "a stool", "one stool"), ("a desk", "one desk"))
    assert len(set(free.label_set.colors)) == 2
    some = vocabulary({"sofa": ["couch"], "bed": ["bed"]}, "nyu40", ["a {}"])
    assert some.label_set.ids == (4, 6) and some.sentences == (("a bed",), ("a couch",))
    assert len(vocabulary(None, "nyu40", ["a {}"]).sentences) == 40
