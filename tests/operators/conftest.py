"""Batches of images with plausible cameras, and models that are too large to be shipped, tiny."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.camera import Camera
from schemas.scene import FrameBatch

MakeBatch = Callable[..., FrameBatch[torch.Tensor]]


@pytest.fixture
def make_batch() -> MakeBatch:
    """make_batch(images [B, 3, H, W] or (B, H, W), frames=None) -> FrameBatch of scene "room"."""

    def make(
        images: torch.Tensor | tuple[int, int, int], frames: tuple[str, ...] | None = None
    ) -> FrameBatch[torch.Tensor]:
        if isinstance(images, tuple):
            count, height, width = images
            images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(7))
        count, _, height, width = images.shape
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        cameras = tuple(Camera(K, np.eye(4), height, width) for _ in range(count))
        return FrameBatch(images, "room", frames or tuple(str(n) for n in range(count)), cameras)

    return make


def save_diffusion(folder: Path, instruct: bool) -> None:
    """A pipeline in diffusers' layout: 8 pixels a latent as usual, a few channels, random weights."""
    import diffusers
    import transformers

    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: n for n, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    text = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "vae": diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(4, 4, 8, 8),
                layers_per_block=1,
                norm_num_groups=2,
            ),
            "unet": diffusers.UNet2DConditionModel(
                sample_size=64,
                in_channels=8 if instruct else 4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(8, 16),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=16,
                attention_head_dim=4,
            ),
            "text_encoder": transformers.CLIPTextModel(text),
        }
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    scheduler = diffusers.EulerAncestralDiscreteScheduler() if instruct else diffusers.DDIMScheduler(clip_sample=False)
    factory = diffusers.StableDiffusionInstructPix2PixPipeline if instruct else diffusers.StableDiffusionImg2ImgPipeline
    pipeline = factory(
        **parts,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


@pytest.fixture(scope="session")
def diffusion_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny diffusion models: one of instructions, one from images to images."""
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package)
    from pipeline.operators.model_folder import quiet

    folder = tmp_path_factory.mktemp("diffusion")
    with quiet():
        for name, instruct in (("instruct", True), ("image", False)):
            save_diffusion(folder / name, instruct)
    return {name: folder / name for name in ("instruct", "image")}
