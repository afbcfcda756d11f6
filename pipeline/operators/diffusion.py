"""Diffusion pipelines that edit images, from a local folder or a model hub.

The parts are loaded one by one, by classes of diffusers and transformers that are named here: weights from safetensors
only, complete or not at all, and no code that a folder or a repository brings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.operators.model_folder import hashable, load_network, model_folder, quiet, read_config
from pipeline.operators.weights import LOAD_ERRORS, summary, tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError

PIPELINES = {
    "StableDiffusionInstructPix2PixPipeline": "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
}
"""What `model_index.json` may name -> the pipeline that edits images with these networks."""
INSTRUCT = "StableDiffusionInstructPix2PixPipeline"
NETWORKS = ("text_encoder", "unet", "vae")
CONFIGS = (*(f"{part}/config.json" for part in NETWORKS), "scheduler/scheduler_config.json")
PACKAGES = "pip install 'lift3d-labeling[diffusers]'"
OFFLINE = (
    "without internet: download the model elsewhere and name its folder, edit:/path, with model_index.json, "
    "scheduler/, tokenizer/ and text_encoder/, unet/, vae/ that hold safetensors"
)


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A loaded pipeline.

    Attributes:
        pipeline: of diffusers, in evaluation mode on its device, without a safety checker.
        instruct: whether it follows instructions (InstructPix2Pix), else it draws an image anew from a noisy one.
        cell: pixels that a latent covers.
        digest: of weights and of configs that matter.
        folder: where it is.
    """

    pipeline: Any
    instruct: bool
    cell: int
    digest: str
    folder: Path


def load_diffusion(name: str, dtype: str, device: str) -> Diffusion:
    """The pipeline that a folder or a hub id names.

    Args:
        name: a folder in diffusers' layout, or `owner/name` on the hub, whose local cache is used where it is complete.
        dtype: float32, float16 or bfloat16; `device`: torch device.

    Raises MissingWeightsError (a package, a file or a tensor is missing or damaged) or ConfigError (another pipeline).
    """
    try:
        import diffusers
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingWeightsError(f"edit needs diffusers and transformers: {error}", remedy=PACKAGES) from None
    with quiet():
        folder = model_folder(name, "edit", lambda cached: _from_hub(name, cached), _is_complete, OFFLINE)
        kind = _kind(folder, name)
        try:
            parts = _parts(folder, dtype)
            configs = json.dumps([read_config(folder / path) for path in CONFIGS], sort_keys=True)
        except (*LOAD_ERRORS, ValueError, TypeError, ImportError) as error:
            raise MissingWeightsError(f"edit: cannot load {name}: {summary(error)}", remedy=OFFLINE) from error
        _check_channels(parts, kind, name)
        pipeline = getattr(diffusers, kind)(
            **parts, safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False
        ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    weights = {
        f"{part}.{key}": hashable(tensor) for part in NETWORKS for key, tensor in parts[part].state_dict().items()
    }
    digest = f"{kind}:{tensors_sha256(weights)}:{configs}"
    return Diffusion(pipeline, kind == INSTRUCT, pipeline.vae_scale_factor, digest, folder)


def _from_hub(name: str, local_files_only: bool) -> Path:
    from diffusers import DiffusionPipeline

    left_out = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    return Path(DiffusionPipeline.download(name, use_safetensors=True, local_files_only=local_files_only, **left_out))


def _is_complete(folder: Path) -> bool:
    return all((folder / path).is_file() for path in CONFIGS) and not _without_weights(folder)


def _without_weights(folder: Path) -> list[str]:
    return [part for part in NETWORKS if not any((folder / part).glob("*.safetensors"))]


def _kind(folder: Path, name: str) -> str:
    """The class of diffusers that edits with the folder's networks."""
    try:
        found = read_config(folder / "model_index.json", private=True).get("_class_name")
    except (OSError, ValueError) as error:
        raise MissingWeightsError(f"edit: {name} has no model_index.json: {summary(error)}", remedy=OFFLINE) from error
    if not isinstance(found, str) or found not in PIPELINES:
        raise ConfigError(
            f"edit: {name} is a {found!r:.80}, expected one of {', '.join(PIPELINES)}",
            remedy="wrap other pipelines as a function, rgb:package.module:function",
        )
    absent = _without_weights(folder)
    if absent:
        raise MissingWeightsError(
            f"edit: {name} has no safetensors in {', '.join(absent)} (pickles are not loaded)",
            remedy="save it again with save_pretrained(..., safe_serialization=True)",
        )
    return PIPELINES[found]


def _parts(folder: Path, dtype: str) -> dict[str, Any]:
    """Networks, tokenizer and scheduler."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    kind = getattr(torch, dtype)
    return {
        "text_encoder": load_network(CLIPTextModel, folder / "text_encoder", dtype=kind),
        "unet": load_network(UNet2DConditionModel, folder / "unet", torch_dtype=kind),
        "vae": load_network(AutoencoderKL, folder / "vae", torch_dtype=kind),
        "tokenizer": CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True),
        "scheduler": _scheduler(folder / "scheduler"),
    }


def _scheduler(folder: Path) -> Any:
    import diffusers

    name = read_config(folder / "scheduler_config.json", private=True).get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)):
        raise ValueError(f"the scheduler is a {name!r:.80}, which diffusers does not have")
    scheduler: Any = found
    return scheduler.from_pretrained(str(folder), local_files_only=True)


def _check_channels(parts: dict[str, Any], kind: str, name: str) -> None:
    latent, given = parts["vae"].config.latent_channels, parts["unet"].config.in_channels
    expected = 2 * latent if kind == INSTRUCT else latent
    if given != expected:
        raise ConfigError(
            f"edit: the UNet of {name} takes {given} channels, expected {expected} (latents of {latent})",
            remedy="take a model of instructions or of images from texts; those for inpainting and depth are others",
        )
