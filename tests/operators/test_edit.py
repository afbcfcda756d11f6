"""`edit`, with tiny networks of random weights: these tests are about plumbing, never about what edits look like."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.run import run_labeling
from pipeline.store import read_labels
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig
from schemas.errors import ConfigError, MissingWeightsError

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

WEIGHTS = "diffusion_pytorch_model.safetensors"
PROMPT = {"prompt": "make it snow"}
Build = Callable[..., Any]


@pytest.fixture(scope="session")
def build(diffusion_models: dict[str, Path]) -> Build:
    """build("instruct" or "image", **kwargs) -> the operator; equal ones are built once."""
    built: dict[str, Any] = {}

    def made(model: str = "instruct", **kwargs: Any) -> Any:
        key = f"{model} {sorted(kwargs.items())}"
        if key not in built:
            built[key] = build_operator(f"edit:{diffusion_models[model]}", {**PROMPT, "steps": 2, **kwargs})
        return built[key]

    return made


@pytest.fixture
def copy(diffusion_models: dict[str, Path], tmp_path: Path) -> Path:
    """The instruction model's folder, to be spoiled."""
    return Path(shutil.copytree(diffusion_models["instruct"], tmp_path / "copy"))


@pytest.mark.parametrize("model", ["instruct", "image"])
@pytest.mark.parametrize("split", ["output", "latent"])
def test_pictures_of_any_size_that_no_other_view_changes(build: Build, make_batch: Any, model: str, split: str) -> None:
    operator = build(model, split=split)
    batch = make_batch((2, 37, 50))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert features.shape == ((2, 3, 37, 50) if split == "output" else (2, 4, 5, 7))
    assert torch.equal(features.flip(0), operator.encode(make_batch(batch.images.flip(0)))), "depends on order"
    assert torch.equal(features[1:], operator.encode(make_batch(batch.images[1:]))), "depends on the batch"
    decoded = operator.decode(features, (37, 50))
    check_decoded(operator, decoded, (37, 50), 2)
    assert decoded.std() > 0.01
    assert torch.equal(decoded[1:], operator.decode(features[1:], (37, 50)))


def test_what_is_lifted_does_not_change_an_edit_that_is_not_lifted(build: Build, make_batch: Any) -> None:
    batch = make_batch((1, 40, 48))
    whole, cut = build(), build(split="latent")
    assert (cut.decode(cut.encode(batch), (40, 48)) - whole.encode(batch)).abs().max() < 1e-5


def test_a_cell_of_latents_is_centred_on_its_pixels(diffusion_models: dict[str, Path], make_batch: Any) -> None:
    """With symmetric kernels the decoder draws the mirrored picture of a mirrored map: no cell is off its pixels."""
    operator = build_operator(f"edit:{diffusion_models['instruct']}", {**PROMPT, "split": "latent"})
    vae = operator._diffusion.pipeline.vae
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = (layer.weight + layer.weight.flip(-1)) / 2
            layer.weight.data = (layer.weight + layer.weight.flip(-2)) / 2
    latents = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    drawn = operator.decode(latents, (40, 56))
    for axis in (-1, -2):
        assert (operator.decode(latents.flip(axis), (40, 56)) - drawn.flip(axis)).abs().max() < 1e-4
    assert (drawn.flip(-1) - drawn).abs().max() > 0.1
    assert torch.equal(operator.decode(latents, (37, 50)), drawn[..., :37, :50])


@pytest.mark.parametrize(("height", "width", "side"), [(37, 50, 24), (61, 40, 32), (16, 24, 48)])
def test_a_smaller_or_larger_size_moves_nothing(
    build: Build, make_batch: Any, monkeypatch: pytest.MonkeyPatch, height: int, width: int, side: int
) -> None:
    operator = build(size=side)
    batch = make_batch((1, height, width))
    check_encoded(operator, operator.encode(batch), batch)
    monkeypatch.setattr(operator, "_run", lambda image: image)  # a model that leaves the image as it is
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    ramps = torch.stack([x, y, x + y])[None] / 128
    inside = (..., slice(8, -8), slice(8, -8)) if side < 40 else (..., slice(2, -2), slice(2, -2))
    assert (operator.encode(make_batch(ramps)) - ramps)[inside].abs().max() * 128 < 0.01


@pytest.mark.parametrize("model", ["instruct", "image"])
def test_an_edit_follows_seed_prompt_and_settings_and_so_does_its_fingerprint(
    build: Build, make_batch: Any, model: str
) -> None:
    only = {"instruct": {"image_guidance": 3.0}, "image": {"strength": 1}}[model]
    changes: list[dict[str, Any]] = [{}, {"seed": 1}, {"prompt": "a chair"}, {"steps": 4}, {"guidance": 2}, only]
    batch = make_batch((1, 24, 32))
    edits = [build(model, **change).encode(batch) for change in changes]
    assert all(not torch.equal(edits[0], edit) for edit in edits[1:])
    assert len({build(model, **change).fingerprint() for change in changes}) == len(changes)
    coarse = build(model, dtype="bfloat16")
    check_encoded(coarse, coarse.encode(batch), batch)
    assert coarse.fingerprint() != build(model).fingerprint()


def test_all_views_begin_with_the_same_noise(build: Build, make_batch: Any) -> None:
    image = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    first, second = build().encode(make_batch(image.repeat(2, 1, 1, 1)))
    assert torch.equal(first, second)


def test_the_fingerprint_is_of_weights_and_configs_and_not_of_the_folder(build: Build, copy: Path) -> None:
    kwargs = {**PROMPT, "steps": 2}
    assert build_operator(f"edit:{copy}", kwargs).fingerprint() == build().fingerprint()
    change(copy / "scheduler" / "scheduler_config.json", beta_end=0.012)
    one = build_operator(f"edit:{copy}", kwargs).fingerprint()
    weights = load_file(copy / "vae" / WEIGHTS)
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, copy / "vae" / WEIGHTS)
    assert len({build().fingerprint(), one, build_operator(f"edit:{copy}", kwargs).fingerprint()}) == 3


def change(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without_a_tensor(folder: Path, part: str) -> None:
    (path,) = (folder / part).glob("*.safetensors")
    weights = load_file(path)
    weights.pop(sorted(weights)[0])
    save_file(weights, path, metadata={"format": "pt"})


SPOILED: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no index": (lambda at: (at / "model_index.json").unlink(), MissingWeightsError, "model_index.json"),
    "another pipeline": (
        lambda at: change(at / "model_index.json", _class_name="FluxPipeline"),
        ConfigError,
        "expected one of StableDiffusionInstructPix2PixPipeline",
    ),
    "code of its own": (
        lambda at: change(at / "model_index.json", _class_name=["mine", "Mine"]),
        ConfigError,
        "expected one of",
    ),
    "only a pickle": (
        lambda at: (at / "unet" / WEIGHTS).rename(at / "unet" / "diffusion_pytorch_model.bin"),
        MissingWeightsError,
        "no safetensors in unet",
    ),
    "damaged": (lambda at: (at / "vae" / WEIGHTS).write_bytes(b"none" * 9), MissingWeightsError, "cannot load"),
    "no config": (lambda at: (at / "vae" / "config.json").unlink(), MissingWeightsError, "cannot load"),
    "no tokenizer": (lambda at: shutil.rmtree(at / "tokenizer"), MissingWeightsError, "cannot load"),
    "UNet not whole": (lambda at: without_a_tensor(at, "unet"), MissingWeightsError, "lacks weights of 1 tensors"),
    "VAE not whole": (lambda at: without_a_tensor(at, "vae"), MissingWeightsError, "lacks weights of 1 tensors"),
    "text encoder not whole": (lambda at: without_a_tensor(at, "text_encoder"), MissingWeightsError, "lacks weights"),
    "no such scheduler": (
        lambda at: change(at / "scheduler" / "scheduler_config.json", _class_name="DiffusionPipeline"),
        MissingWeightsError,
        "the scheduler is a 'DiffusionPipeline'",
    ),
    "another UNet": (
        lambda at: change(at / "model_index.json", _class_name="StableDiffusionPipeline"),
        ConfigError,
        "takes 8 channels, expected 4",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_model_that_is_not_whole_is_refused(copy: Path, case: str) -> None:
    spoil, error, says = SPOILED[case]
    spoil(copy)
    with pytest.raises(error, match=says):
        build_operator(f"edit:{copy}", PROMPT)


@pytest.mark.parametrize(
    ("model", "kwargs", "says"),
    [
        ("instruct", {"prompt": ""}, "prompt: String should have at least 1 character"),
        ("instruct", {"strength": 0.5}, "strength is for image-to-image models"),
        ("image", {"image_guidance": 2.0}, "image_guidance is for instruction models"),
        ("image", {"steps": 1, "strength": 0.3}, "1 steps at this strength are none"),
        ("instruct", {"size": 50}, "multiple of 8"),
        ("instruct", {"size": 64, "split": "latent"}, "split=output"),
        ("instruct", {"split": "middle"}, "'output' or 'latent'"),
        ("instruct", {"step": 3}, "it takes: prompt, steps, guidance"),
        ("instruct", {"prompt": "snow " * 50}, "the model reads 77"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    diffusion_models: dict[str, Path], model: str, kwargs: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        build_operator(f"edit:{diffusion_models[model]}", {**PROMPT, **kwargs})


def test_a_prompt_is_required(diffusion_models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="prompt: Field required"):
        build_operator(f"edit:{diffusion_models['image']}")


@pytest.mark.parametrize("model", ["nobody/has-this-model", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match=f"{model}.*without internet: download the model elsewhere"):
        build_operator(f"edit:{model}", PROMPT)


def test_a_model_in_the_hubs_cache_needs_no_network(
    build: Build, diffusion_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision, cached = "0" * 40, tmp_path / "models--owner--snow"
    shutil.copytree(diffusion_models["instruct"], cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert build_operator("edit:owner/snow", {**PROMPT, "steps": 2}).fingerprint() == build().fingerprint()
    (cached / "snapshots" / revision / "unet" / WEIGHTS).unlink()
    with pytest.raises(MissingWeightsError, match="owner/snow"):
        build_operator("edit:owner/snow", PROMPT)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingWeightsError, match=r"pip install 'lift3d-labeling\[diffusers\]'"):
        build_operator("edit:owner/name", PROMPT)


def test_the_libraries_are_quiet_and_stay_as_they_were(
    diffusion_models: dict[str, Path], make_batch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(one.get_verbosity(), one.is_progress_bar_enabled()) for one in libraries]
    build_operator(f"edit:{diffusion_models['instruct']}", {**PROMPT, "steps": 1}).encode(make_batch((1, 16, 16)))
    assert [(one.get_verbosity(), one.is_progress_bar_enabled()) for one in libraries] == before
    assert capfd.readouterr() == ("", "")


def test_it_keeps_the_contract(diffusion_models: dict[str, Path], operator_contract: Any, make_batch: Any) -> None:
    operator_contract(
        f"edit:{diffusion_models['instruct']}",
        {**PROMPT, "steps": 1, "split": "latent"},
        batches=[make_batch((2, 24, 24)), make_batch((2, 17, 27))],
        variation={"seed": 2},
        elsewhere=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["instruct", "image"])
def test_it_is_the_same_in_another_process(
    diffusion_models: dict[str, Path], operator_contract: Any, model: str
) -> None:
    operator_contract(f"edit:{diffusion_models[model]}", {**PROMPT, "steps": 2}, variation={"prompt": "a chair"})


@pytest.mark.slow
def test_edits_of_a_room_are_lifted_and_stored(
    diffusion_models: dict[str, Path], sample_room: Path, tmp_path: Path
) -> None:
    operator = {"spec": f"edit:{diffusion_models['instruct']}", "kwargs": {**PROMPT, "steps": 1, "split": "latent"}}
    config = LabelingConfig(
        source=str(sample_room),
        store=str(tmp_path / "store"),
        operator=OperatorConfig.model_validate(operator),
        lift=LiftConfig(method="depth", sources=4),
        engine=EngineConfig(kind="local"),
    )
    summary = run_labeling(config)
    assert (summary.frames_labelled, summary.frames_quarantined) == (24, 0)
    labels = read_labels(config.store)
    assert set(labels["kind"]) == {"image"}
