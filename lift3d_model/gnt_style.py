"""A renderer in the style of GNT, whose speed lifting is compared with. It labels nothing, and its weights are random.

What it does for a target ray is what generalizable view-synthesis transformers do before any geometry is known: 64
samples along the ray, each projected into 10 source views; in each of 4 blocks the samples attend to the views, then
to each other; the mean over the samples is the colour. An operator's values can ride along with the attention. Only
its cost means something: with random weights its colours do not, so it is no baseline of quality.

Shapes: R rays, P samples a ray, V source views, D width of a token, C channels of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lift3d_model.geometry import in_image, project, unproject
from lift3d_model.sampling import sample_bilinear
from lift3d_model.views import Views

FEATURE_STRIDE = 4
"""Image pixels a cell of the feature maps."""
DIRECTION = 4
"""Length of the direction code: difference of two unit directions, and their cosine."""


@dataclass(frozen=True, slots=True)
class GntSettings:
    """Sizes of the renderer; the defaults are what speed is compared with."""

    samples: int = 64
    features: int = 32
    width: int = 64
    blocks: int = 4
    heads: int = 4
    frequencies: int = 10
    chunk: int = 64
    """Rays at once: with 64 the tokens of a chunk stay in a core's cache, which is nearly twice as fast as 1,000."""


@dataclass(frozen=True, slots=True)
class SourceMaps:
    """What rays are rendered from.

    Attributes:
        views: all views, the target among them; sources: [V] indices of the source views.
        features: [V, F, h, w] of the sources, in their order (`GntStyle.features`).
        values: [V, C, h', w'] of an operator, to ride along; None = nothing does.
        stride: image pixels a cell of the values.
    """

    views: Views
    sources: Tensor
    features: Tensor
    values: Tensor | None = None
    stride: float = 1.0


@dataclass(frozen=True, slots=True)
class Rays:
    """What a chunk of rays sees in its source views.

    Attributes:
        tokens: [R, P, V, 3 + features] colours and features.
        direction: [R, P, V, 4] how each source looks at the sample, against how the target does.
        visible: [R, P, V, 1] whether the sample projects into the source's image.
        code: [R, P, 12 frequencies + 6] of the sample's place and the ray's direction.
        values: [R, P, V, C] of an operator, C may be 0.
    """

    tokens: Tensor
    direction: Tensor
    visible: Tensor
    code: Tensor
    values: Tensor


class GntStyle(nn.Module):
    """The renderer: `features` once a source view, `render` for rays of any target."""

    def __init__(self, settings: GntSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or GntSettings()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, s.features, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(s.features, 2 * s.features, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * s.features, s.features, 3, padding=1),
        )
        self.entry = _mlp(s.features + 3, s.width, s.width)
        self.views = nn.ModuleList(_ViewAttention(s.width) for _ in range(s.blocks))
        self.query = nn.ModuleList(_mlp(s.width + 12 * s.frequencies + 6, s.width, s.width) for _ in range(s.blocks))
        self.rays = nn.ModuleList(_RayAttention(s.width, s.heads) for _ in range(s.blocks))
        self.norm = nn.LayerNorm(s.width)
        self.colour = nn.Linear(s.width, 3)

    def features(self, images: Tensor) -> Tensor:
        """images [V, 3, H, W] -> feature maps [V, F, h, w], cells of 4 pixels."""
        maps: Tensor = self.encoder(images)
        return maps

    @torch.no_grad()
    def render(
        self, maps: SourceMaps, target: int, pixels: Tensor, depth_range: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """Render rays of a target view, a chunk at a time.

        Args:
            pixels: [R, 2] of the target.
            depth_range: nearest and farthest sample; samples are evenly spaced in inverse depth.

        Returns:
            colours [R, 3] and carried values [R, C].
        """
        parts = [
            self(self._fetch(maps, target, chunk, depth_range)) for chunk in torch.split(pixels, self.settings.chunk)
        ]
        return torch.cat([colour for colour, _ in parts]), torch.cat([value for _, value in parts])

    def forward(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """A chunk of rays -> colours [R, 3], carried values [R, C]."""
        tokens = self.entry(rays.tokens)
        query = tokens.masked_fill(~rays.visible, -math.inf).amax(2)
        query = query.masked_fill(~rays.visible.any(2), 0.0)
        values = rays.values[:, :, 0]
        for view, mix, ray in zip(self.views, self.query, self.rays, strict=True):
            query, share = view(query, tokens, rays.direction, rays.visible)
            if rays.values.shape[-1]:
                values = (share.mean(-1, keepdim=True) * rays.values).sum(2)
            query, attention = ray(mix(torch.cat([query, rays.code], dim=-1)))
        # The last block's attention, averaged over heads and queries, is each sample's share of the ray.
        carried = (attention.mean((1, 2))[..., None] * values).sum(1)
        return self.colour(self.norm(query).mean(1)), carried

    def _fetch(self, maps: SourceMaps, target: int, pixels: Tensor, depth_range: tuple[float, float]) -> Rays:
        """Project the samples of rays through pixels [R, 2] into the sources and look up what is there."""
        views, sources = maps.views, maps.sources
        K, pose = views.K, views.world_from_cam
        near, far = depth_range
        grid = (len(sources), len(pixels), self.settings.samples)
        inverse = torch.linspace(1.0 / near, 1.0 / far, grid[-1], dtype=pixels.dtype, device=pixels.device)
        points = unproject(
            pixels.repeat_interleave(grid[-1], 0), (1.0 / inverse).repeat(grid[1]), K[target], pose[target]
        )
        landed, z = project(points, K[sources], pose[sources])
        colours = sample_bilinear(views.images[sources], landed)
        features = sample_bilinear(maps.features, landed, FEATURE_STRIDE)
        values = colours[:, :0] if maps.values is None else sample_bilinear(maps.values, landed, maps.stride)
        directions = _directions(points, pose[target, :3, 3], pose[sources, :3, 3])
        return Rays(
            tokens=_by_ray(torch.cat([colours, features], dim=1), grid),
            direction=_by_ray(directions, grid),
            visible=_by_ray(in_image(landed, z, views.sizes[sources])[:, None], grid),
            code=self._code(points, pose[target, :3, 3], far).view(*grid[1:], -1),
            values=_by_ray(values, grid),
        )

    def _code(self, points: Tensor, eye: Tensor, far: float) -> Tensor:
        """[N, 12 frequencies + 6]: sines and cosines of the place relative to the far plane, and of the direction."""
        offset = (points - eye).float()
        place = torch.cat([offset / far, F.normalize(offset, dim=-1)], dim=-1)
        scaled = place[..., None] * 2.0 ** torch.arange(self.settings.frequencies, device=place.device)
        return torch.cat([place, scaled.sin().flatten(-2), scaled.cos().flatten(-2)], dim=-1)


class _ViewAttention(nn.Module):
    """Every sample asks its source views: subtraction attention, one softmax over the views a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.direction = _mlp(DIRECTION, width // 8, width)
        self.logits = _mlp(width, width // 8, width)
        self.out = nn.Linear(width, width)
        self.feed = _FeedForward(width)

    def forward(self, query: Tensor, tokens: Tensor, direction: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """query [R, P, D], tokens [R, P, V, D] -> query, and the shares [R, P, V, D] of the views."""
        place = self.direction(direction)
        logits = self.logits(self.k(tokens) - self.q(self.norm(query))[:, :, None] + place)
        # A sample that no view sees gets a softmax of equals, then nothing at all.
        share = logits.masked_fill_(~visible, -1e9).softmax(2) * visible
        seen = ((self.v(tokens) + place) * share).sum(2)
        return self.feed(query + self.out(seen)), share


class _RayAttention(nn.Module):
    """The samples of a ray attend to each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.feed = _FeedForward(width)

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query [R, P, D] -> query, and the attention [R, heads, P, P]."""
        q, k, v = self.qkv(self.norm(query)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        return self.feed(query + self.out(mixed)), attention


class _FeedForward(nn.Module):
    """x + MLP(x), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = _mlp(width, 4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        changed: Tensor = tokens + self.layers(self.norm(tokens))
        return changed


def _mlp(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inner), nn.ReLU(), nn.Linear(inner, outputs))


def _by_ray(values: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """[V, C, R P] -> [R, P, V, C] for a (V, R, P) grid."""
    return values.view(grid[0], -1, *grid[1:]).permute(2, 3, 0, 1).contiguous()


def _directions(points: Tensor, eye: Tensor, eyes: Tensor) -> Tensor:
    """[V, 4, N]: how differently target and sources look at world points [N, 3], from their camera centres."""
    ours = F.normalize(points - eye, dim=-1)
    theirs = F.normalize(points - eyes[:, None], dim=-1)
    cosine = (ours * theirs).sum(-1, keepdim=True)
    return torch.cat([F.normalize(ours - theirs, dim=-1), cosine], dim=-1).float().transpose(1, 2)
