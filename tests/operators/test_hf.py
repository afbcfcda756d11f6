"""`hf`: plumbing and arithmetic of the transformers operators on tiny models of random weights, never their quality."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.hf_classes import channels
from pipeline.operators.model_folder import quiet
from schemas.errors import ConfigError, MissingWeightsError
from schemas.label_sets import label_set
from tests.operators.hf_models import CLASSES, SIDE, save_model

transformers = pytest.importorskip("transformers")

UNIVERSAL = ("mask2former", "maskformer", "oneformer", "eomt")
SEMANTIC = ("segformer", "upernet", "beit", "data2vec", "mobilevit", "dpt_segmentation")
DEPTHS = ("dpt_depth", "depth_anything")
FEATURES = ("dinov2", "dinov3", "vit")
MORE = ("mobilenet", "mobilevit2", "dinov2_registers", "zoedepth")
FAMILIES = (*SEMANTIC, *UNIVERSAL, "clipseg", *DEPTHS, *FEATURES, *MORE)
QUICK = ("segformer", "clipseg", "depth_anything", "vit")
Folder = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """tiny(name) -> folder of a tiny model, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = save_model(tmp_path_factory.mktemp(name), name)
        return made[name]

    return get


def build(folder: Path, **kwargs: Any) -> Any:
    return build_operator(f"hf:{folder}", kwargs)


def options(name: str) -> dict[str, Any]:
    return {"prompts": ["a chair", "a lamp"]} if name == "clipseg" else {}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_every_family_keeps_the_contract(name: str, tiny: Folder, operator_contract: Any) -> None:
    operator_contract(f"hf:{tiny(name)}", options(name), variation={**options(name), "stride": 8}, elsewhere=False)


@pytest.mark.slow
def test_it_is_the_same_operator_in_another_process(tiny: Folder, operator_contract: Any) -> None:
    operator_contract(f"hf:{tiny('segformer')}")


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (images - mean) / std


@pytest.mark.parametrize("name", [*SEMANTIC, *UNIVERSAL])
def test_classes_at_the_models_own_size_are_those_of_transformers(name: str, tiny: Folder, make_batch: Any) -> None:
    operator, batch = build(tiny(name)), make_batch((2, SIDE, SIDE))
    found = operator.encode(batch)
    found = found / found.std() if name in SEMANTIC else found  # random logits of MobileViT are all but 0
    scores = operator.decode(found, (SIDE, SIDE))
    network = operator._model.network
    with quiet(), torch.inference_mode():
        found = network(
            pixel_values=normalised(batch.images), **{k: v.repeat(2, 1) for k, v in operator._given.items()}
        )
        theirs = torch.stack(post_processed(name, found))
    kept = theirs < CLASSES - 1  # the last one is called void
    ours = scores.argmax(1)
    assert (ours == theirs)[kept].float().mean() > 0.999 and kept.float().mean() > 0.2
    assert (scores.sum(1) == 0)[~kept].float().mean() > 0.999 or kept.all()
    assert scores.std((2, 3)).max() > 1e-4, "not the same everywhere"


def post_processed(name: str, found: Any) -> list[torch.Tensor]:
    """transformers' own semantic maps of 64 x 64 pixels."""
    sizes = [(SIDE, SIDE)] * 2
    processors = {
        "maskformer": "MaskFormerImageProcessor",
        "oneformer": "OneFormerImageProcessor",
        "mask2former": "MaskFormerImageProcessor",
        "beit": "BeitImageProcessor",
    }
    if name in ("eomt", "mask2former"):  # theirs bring masks to a fixed size first: here to the image's
        found["masks_queries_logits"] = torch.nn.functional.interpolate(
            found.masks_queries_logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False
        )
        name = "mask2former"
    if name == "oneformer":
        return list(transformers.MaskFormerImageProcessor().post_process_semantic_segmentation(found, sizes))
    processor = getattr(transformers, processors.get(name, "SegformerImageProcessor"))()
    return list(processor.post_process_semantic_segmentation(found, sizes))


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_at_the_models_own_size_is_that_of_transformers(name: str, tiny: Folder, make_batch: Any) -> None:
    side = 64 if name == "dpt_depth" else 70
    operator = build(tiny(name), size=side)
    batch = make_batch((2, side, side))
    depth = operator.decode(operator.encode(batch), (side, side))
    with torch.inference_mode():
        theirs = operator._model.network(pixel_values=normalised(batch.images)).predicted_depth
    torch.testing.assert_close(depth[:, 0], theirs, atol=1e-3, rtol=1e-3)
    assert depth.std() > 0


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_the_last_blocks_patch_tokens(name: str, tiny: Folder, make_batch: Any) -> None:
    operator = build(tiny(name))
    side = 4 * operator.stride
    batch = make_batch((1, side, side))
    features = operator.encode(batch)
    with torch.inference_mode():
        theirs = operator._model.network(pixel_values=normalised(batch.images)).last_hidden_state
    torch.testing.assert_close(features[0].permute(1, 2, 0).flatten(0, 1), theirs[0, -16:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "preprocessing",
    [
        {},
        {"size": {"shortest_edge": 40, "longest_edge": 50}},
        {"size": {"height": 70, "width": 70}, "keep_aspect_ratio": True, "ensure_multiple_of": 14},
        {"do_resize": False},
        {"size": 300},
    ],
    ids=["stretched", "edges", "ratio", "as it is", "larger"],
)
@pytest.mark.parametrize("name", ["segformer", "beit"])
def test_no_pixel_moves_however_images_are_resized(
    name: str, preprocessing: dict[str, Any], tmp_path: Path, make_batch: Any
) -> None:
    """Of a network that returns the image it is shown, the operator's map is the image, at every size."""
    operator = build(save_model(tmp_path, name, **preprocessing))
    family = replace(operator._model.family, run=lambda network, pixels, given: pixels[:, :2])  # noqa: ARG005
    operator._model = replace(operator._model, family=family)
    height, width = 90, 150
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    ramps = torch.stack([x / width, y / height, x / width])
    found = operator.encode(make_batch(ramps[None]))[0]
    found = found * torch.tensor([0.229, 0.224])[:, None, None] + torch.tensor([0.485, 0.456])[:, None, None]
    moved = (found - ramps[:2])[:, 12:-12, 12:-12] * torch.tensor([width, height])[:, None, None]
    assert moved.abs().max() < 0.02, "pixels"


def test_a_text_gives_heat_and_texts_give_classes(tiny: Folder, make_batch: Any) -> None:
    batch, size = make_batch((1, SIDE, SIDE)), (SIDE, SIDE)
    heat = build(tiny("clipseg"), prompts="a chair")
    one, two = (build(tiny("clipseg"), prompts=words) for words in (["a chair", "bed"], {"x": ["a chair", "bed"]}))
    assert heat.kind == "scalar" and heat.label_set is None
    assert one.label_set.names == ("a chair", "bed") and one.label_set.ignore_id == 0
    logits, mean = one.encode(batch), one.encode(batch).mean(1, keepdim=True)
    torch.testing.assert_close(heat.decode(heat.encode(batch), size), logits[:, :1].sigmoid(), atol=1e-4, rtol=1e-4)
    scores = one.decode(logits, size)
    assert ((scores.sum(1) == 0) == (logits.amax(1) < 0)).float().mean() > 0.999, "nothing suits: no prediction"
    assert ((two.decode(two.encode(batch), size)[:, 0] > 0) == (mean[:, 0] >= 0)).float().mean() > 0.999
    assert len({heat.fingerprint(), one.fingerprint(), two.fingerprint()}) == 3


def test_texts_are_seen_by_the_network_as_transformers_tokenizes_them(tiny: Folder, make_batch: Any) -> None:
    operator, batch = build(tiny("clipseg"), prompts=["a chair", "bed"]), make_batch((1, SIDE, SIDE))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny("clipseg"))
    given = tokenizer(["a chair", "bed"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = operator._model.network(pixel_values=normalised(batch.images).repeat(2, 1, 1, 1), **given).logits
    torch.testing.assert_close(operator.encode(batch)[0], theirs, atol=1e-4, rtol=1e-4)


def test_relative_depth_is_no_depth_in_space(tiny: Folder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected metric depth"):
        build_operator(f'depth(letterbox(hf:"{tiny("depth_anything")}"; side=64))')
    folder = save_model(tmp_path, "depth_anything")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "depth_estimation_type": "metric"}))
    assert not build(folder).relative and build_operator(f'depth(hf:"{folder}")').kind == "scalar"


def test_weights_that_are_never_used_may_be_absent_and_no_others(tmp_path: Path, make_batch: Any) -> None:
    from safetensors.torch import load_file, save_file

    folder, batch = save_model(tmp_path, "dpt_depth"), make_batch((1, SIDE, SIDE))
    whole = load_file(folder / "model.safetensors")
    before = build(folder).encode(batch)
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    assert any(name.startswith(unused) for name in whole)
    save_file(
        {k: v for k, v in whole.items() if not k.startswith(unused)}, folder / "model.safetensors", {"format": "pt"}
    )
    one, two = build(folder), build(folder)
    assert torch.equal(one.encode(batch), before) and one.fingerprint() == two.fingerprint()
    save_file(
        {k: v for k, v in whole.items() if not k.startswith("head.")}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(MissingWeightsError, match="lacks weights of .* tensors, head"):
        build(folder)


def edited(folder: Path, name: str, **values: Any) -> None:
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**document, **values}))


MISTAKES: dict[str, tuple[Callable[[Path], object], dict[str, Any], type[Exception], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), {}, MissingWeightsError, "no safetensors"),
    "a pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), {}, MissingWeightsError, "pickles",
    ),
    "damaged": (
        lambda f: (f / "model.safetensors").write_bytes(b"\0" * 64), {}, MissingWeightsError, "cannot load",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), {}, MissingWeightsError, "no config.json"),
    "no preprocessing": (
        lambda f: (f / "preprocessor_config.json").unlink(), {}, MissingWeightsError, "preprocessor_config.json",
    ),
    "odd preprocessing": (
        lambda f: edited(f, "preprocessor_config.json", size={"width": 3}, image_mean="x"), {}, MissingWeightsError,
        "cannot be used",
    ),
    "another architecture": (
        lambda f: edited(f, "config.json", architectures=["BertModel"]), {}, ConfigError, "BertModel., which is not",
    ),
    "other shapes": (
        lambda f: edited(f, "config.json", decoder_hidden_size=8), {}, MissingWeightsError, "cannot load",
    ),
    "code of its own": (
        lambda f: edited(f, "config.json", architectures=["Own"], auto_map={"AutoModel": "own.Own"}), {}, ConfigError,
        "not supported",
    ),
    "prompts": (lambda f: None, {"prompts": ["chair"]}, ConfigError, "takes no prompts"),
    "a size": (lambda f: None, {"size": 0}, ConfigError, "shorter side"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_never_end_in_random_weights(mistake: str, tmp_path: Path) -> None:
    spoil, kwargs, error, says = MISTAKES[mistake]
    folder = save_model(tmp_path, "segformer")
    spoil(folder)
    with pytest.raises(error, match=says):
        build(folder, **kwargs)


@pytest.mark.parametrize("name", ["absent/model", "/absent/folder", "no-folder"])
def test_a_model_that_is_not_there_is_said_where_to_put(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="without internet"):
        build_operator(f"hf:{name}")


def test_a_model_of_the_hubs_cache_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    folder = save_model(repository / "snapshots" / ("a" * 40), "segformer")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    operator = build_operator("hf:owner/tiny")
    assert operator.fingerprint() == build(folder).fingerprint()
    assert operator.weights_info() == (("hf:owner/tiny", "apache-2.0"),)


def test_classes_are_a_built_in_label_set_where_their_names_are_its_names() -> None:
    ade = label_set("ade20k")
    spelled = [f"{name} , {name} thing" if k % 5 else name.upper() for k, name in enumerate(ade.names)]
    spelled[3] = "ground"
    table = {str(k): name for k, name in enumerate(spelled)}
    assert channels({"id2label": table}, True).label_set == ade
    turned = {k: spelled[-1 - k] for k in range(len(spelled))}
    assert channels({"id2label": turned}, True).label_set.name == "id2label"
    voc = dict(enumerate(label_set("voc21").names))
    assert channels({"id2label": voc}, False).label_set.ids[0] == 0, "background is a class of VOC"


def test_classes_of_ones_own_keep_their_ids() -> None:
    table = {0: "void", 1: "background", 2: "chair"}
    plain, reduced = channels({"id2label": table}, False), channels({"id2label": table}, True)
    assert plain.label_set.ids == (1, 2) and plain.label_set.ignore_id == 255 and plain.order == (1, 2, 0)
    assert reduced.label_set.ids == (2, 3) and reduced.label_set.ignore_id == 0
    assert plain.label_set.names == reduced.label_set.names == ("background", "chair")


@pytest.mark.parametrize("table", [None, {}, {1: "a"}, {"x": "a"}, {0: "void"}])
def test_classes_without_names_are_refused(table: Any) -> None:
    with pytest.raises(ConfigError, match="id2label"):
        channels({"id2label": table}, False)
