"""`edit:MODEL`: the image edited by a diffusion model, by an instruction or drawn anew after a text.

InstructPix2Pix (Brooks et al., 2023) follows instructions ("make it snow"); image-to-image diffusion (SDEdit, Meng et
al., 2022) starts from a noisy copy of the image and draws what the text says. Every view is edited alone, from noise
that is the same for all; lifting makes them agree. docs/image_operators.md says what is lifted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.operators.diffusion import Diffusion, load_diffusion
from pipeline.operators.grid import pad_to_stride
from pipeline.operators.letterbox import fetched, resized
from pipeline.operators.licences import Weights, folder_weights
from pipeline.operators.model_folder import quiet
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""
IMAGE_GUIDANCE, STRENGTH = 1.5, 0.6
"""Defaults of what only one of the two kinds of pipeline takes."""


class EditSettings(BaseModel):
    """What `edit` takes besides its model.

    Attributes:
        prompt: the instruction, or for image-to-image models what the picture shall show.
        steps: of denoising; image-to-image does `strength` of them.
        guidance: how closely the text is followed, 1 = not enforced.
        image_guidance: how closely the image is kept, of instructions only (default 1.5).
        strength: share of the noise that image-to-image starts from, 1 = nothing is left of the image (default 0.6).
        seed: of the noise.
        size: pixels of the longer side that the model sees, a multiple of a latent's pixels; none takes the image's.
        split: `output` lifts the edited pictures, `latent` the latents that the decoder draws them from.
        dtype: that the networks compute in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    steps: int = Field(20, ge=1, le=1000)
    guidance: float = Field(7.5, ge=1, le=100)
    image_guidance: float | None = Field(None, ge=1, le=100)
    strength: float | None = Field(None, gt=0, le=1)
    seed: int = 0
    size: int | None = Field(None, ge=8)
    split: Literal["output", "latent"] = "output"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


class Edit:
    """The edited image in [0, 1].

    Args:
        model: a folder in diffusers' layout, or `owner/name` on the hub: InstructPix2Pix or Stable Diffusion 1 and 2.
        device: torch device.
        settings: those of `EditSettings`; `prompt` is required.

    Raises ConfigError or MissingWeightsError.
    """

    name = "edit"
    kind: Kind = "image"
    label_set = None

    def __init__(self, model: str, *, device: str = "cpu", **settings: Any) -> None:
        self._settings = _checked(settings)
        self._name = model
        self._diffusion = load_diffusion(model, self._settings.dtype, device)
        _check_fit(self._settings, self._diffusion)
        self.stride = self._diffusion.cell if self._settings.split == "latent" else 1
        self._seed = _seed(self._settings)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Edited pictures [B, 3, H, W] in [0, 1], or their latents [B, 4, h, w]; image by image."""
        import torch

        with quiet(), torch.inference_mode():
            return torch.cat([self._edited(image) for image in batch.images.split(1)]).to(batch.images.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Colours [B, 3, H, W] in [0, 1]: what the decoder draws from latents, or the pictures as they are."""
        import torch

        if self._settings.split == "output":
            return features[..., : size[0], : size[1]].clamp(0, 1)
        with quiet(), torch.inference_mode():
            drawn = torch.cat([self._drawn(latents) for latents in features.split(1)])
        return drawn[..., : size[0], : size[1]].to(features.device)

    def fingerprint(self) -> str:
        """Weights, the prompt's tokens and settings."""
        tokens = [_tokens(self._diffusion, text) for text in (self._settings.prompt, "")]
        parts = (self._diffusion.digest, repr(tokens), self._settings.model_dump_json())
        return f"edit:{VERSION}:{hashlib.sha256(repr(parts).encode()).hexdigest()}"

    def weights_info(self) -> tuple[Weights, ...]:
        """Where the weights come from, and their licence."""
        return (folder_weights(f"edit:{self._name}", self._diffusion.folder),)

    def _edited(self, image: Tensor) -> Tensor:
        """One image [1, 3, H, W] -> its picture, or its latents."""
        size = (image.shape[-2], image.shape[-1])
        inner = self._seen(size)
        if inner != size:
            image = resized(image, inner).clamp(0, 1)
        made = self._run(pad_to_stride(image, self._diffusion.cell)).float()
        if self._settings.split == "latent":
            return made
        made = made[..., : inner[0], : inner[1]]
        return made if inner == size else fetched(made, 1, inner, size, 1)

    def _seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size at which the model sees an image."""
        if self._settings.size is None:
            return size
        height, width = (max(1, round(side * self._settings.size / max(size))) for side in size)
        return height, width

    def _run(self, image: Tensor) -> Tensor:
        import torch

        settings, pipeline = self._settings, self._diffusion.pipeline
        own: dict[str, Any] = {"strength": settings.strength or STRENGTH}
        if self._diffusion.instruct:
            own = {"image_guidance_scale": settings.image_guidance or IMAGE_GUIDANCE}
        made = pipeline(
            prompt=settings.prompt,
            image=image,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=torch.Generator("cpu").manual_seed(self._seed),
            output_type="latent" if settings.split == "latent" else "pt",
            return_dict=False,
            **own,
        )
        picture: Tensor = made[0]
        return picture

    def _drawn(self, latents: Tensor) -> Tensor:
        """Latents [1, 4, h, w] -> colours [1, 3, h cell, w cell]."""
        vae = self._diffusion.pipeline.vae
        given = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor
        colours: Tensor = vae.decode(given, return_dict=False)[0].float()
        return (colours / 2 + 0.5).clamp(0, 1)


def _checked(settings: dict[str, Any]) -> EditSettings:
    try:
        return EditSettings(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"edit: {where}: {first['msg']}, found {first['input']!r:.80}",
            remedy=f"it takes: {', '.join(EditSettings.model_fields)} (operator.kwargs)",
        ) from None


def _check_fit(settings: EditSettings, diffusion: Diffusion) -> None:
    """Raise ConfigError where settings do not go with the model."""
    alien, value = (
        ("strength", settings.strength) if diffusion.instruct else ("image_guidance", settings.image_guidance)
    )
    if value is not None:
        other = "image-to-image" if diffusion.instruct else "instruction"
        raise ConfigError(f"edit: {alien} is for {other} models, which this is not", remedy=f"leave {alien} out")
    if not diffusion.instruct and int(settings.steps * (settings.strength or STRENGTH)) < 1:
        raise ConfigError(f"edit: {settings.steps} steps at this strength are none", remedy="raise steps or strength")
    if settings.size is not None and (settings.size % diffusion.cell or settings.split == "latent"):
        raise ConfigError(
            f"edit: size {settings.size} with split {settings.split!r}: expected a multiple of {diffusion.cell}, and "
            "split=output, as latents of a resized image have no whole number of pixels",
            remedy="set another size, or resize the dataset's images",
        )
    found, longest = len(_tokens(diffusion, settings.prompt)), diffusion.pipeline.tokenizer.model_max_length
    if found > longest:
        raise ConfigError(f"edit: the prompt has {found} tokens, the model reads {longest}", remedy="shorten it")


def _tokens(diffusion: Diffusion, text: str) -> list[int]:
    with quiet():
        return list(diffusion.pipeline.tokenizer(text).input_ids)


def _seed(settings: EditSettings) -> int:
    """The noise's seed: of seed and prompt alone, so that all views of all scenes begin with the same noise."""
    digest = hashlib.sha256(f"{settings.seed}\n{settings.prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
