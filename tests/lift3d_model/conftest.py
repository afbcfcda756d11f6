"""A textured room with a crate in it, ray-cast in a few lines of numpy, and small random views for the slow twin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lift3d_model import Depths, Views
from lift3d_model.reference import SlowViews

ROOM = np.array([[-2.0, -1.2, -2.0], [2.0, 1.2, 2.5]])
CRATE = np.array([[-0.5, 0.2, 0.4], [0.6, 1.2, 1.3]])
CLASSES = 7


@dataclass(frozen=True)
class Room:
    """Views of the room with their true depth [V, H, W] and class ids [V, H, W] (six walls, one crate)."""

    views: Views
    depth: torch.Tensor
    ids: torch.Tensor

    @property
    def depths(self) -> Depths:
        """The true depth as a sensor would give it."""
        return Depths(self.depth, torch.full_like(self.depth, 0.01), (self.depth > 0).float())

    def others(self, target: int) -> list[int]:
        """All views but one."""
        return [v for v in range(len(self.views)) if v != target]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_room() -> Callable[..., Room]:
    """Render the room: how many views of which size, and where the world is and how long its unit."""

    def make(
        count: int = 7, size: tuple[int, int] = (48, 64), world: np.ndarray | None = None, unit: float = 1.0
    ) -> Room:
        K = np.array([[0.8 * size[1], 0, size[1] / 2 + 1.5], [0, 0.8 * size[1], size[0] / 2 - 0.5], [0, 0, 1]])
        poses = [_pose(v, count) for v in range(count)]
        seen = [_cast(K, pose, size) for pose in poses]
        moved = np.stack([(np.eye(4) if world is None else world) @ pose for pose in poses])
        moved[:, :3, 3] *= unit
        views = Views(
            images=torch.stack([torch.from_numpy(colour).float() for colour, _, _ in seen]),
            K=torch.from_numpy(K).expand(count, 3, 3).clone(),
            world_from_cam=torch.from_numpy(moved),
            sizes=torch.tensor([size] * count),
        )
        depth = torch.stack([torch.from_numpy(depth * unit).float() for _, depth, _ in seen])
        return Room(views, depth, torch.stack([torch.from_numpy(ids) for _, _, ids in seen]))

    return make


@pytest.fixture(scope="session")
def room(make_room: Callable[..., Room]) -> Room:
    """Seven views of 64 x 48 pixels."""
    return make_room()


@pytest.fixture(scope="session")
def random_views() -> Callable[..., tuple[Views, Depths]]:
    """Views of noise with gaps in their depth, from poses close to each other; the last view is smaller."""

    def make(seed: int, spread: float, count: int = 3, size: tuple[int, int] = (9, 11)) -> tuple[Views, Depths]:
        rng = np.random.default_rng(seed)
        poses = np.stack([np.eye(4)] * count)
        poses[:, :3, :3] = [_rotation(rng.normal(0, 0.06, 3)) for _ in range(count)]
        poses[:, :3, 3] = rng.normal(0, 0.12, (count, 3))
        K = np.array([[10.0, 0.2, 5.3], [0.0, 9.0, 4.4], [0.0, 0.0, 1.0]]) + np.zeros((count, 1, 1))
        K[:, 0, 0] += rng.uniform(-1, 1, count)
        sizes = torch.tensor([size] * (count - 1) + [(size[0] - 2, size[1] - 3)])
        depth = torch.from_numpy(rng.uniform(1.8, 2.2, (count, *size)) * (rng.random((count, *size)) > 0.1)).float()
        images = torch.from_numpy(rng.random((count, 3, *size))).float()
        depth[-1, sizes[-1, 0] :], depth[-1, :, sizes[-1, 1] :] = 0, 0
        images[-1, :, sizes[-1, 0] :], images[-1, :, :, sizes[-1, 1] :] = 0, 0
        spreads = torch.from_numpy(spread * rng.uniform(0.5, 1.0, depth.shape)).float()
        views = Views(images, torch.from_numpy(K), torch.from_numpy(poses), sizes)
        return views, Depths(depth, spreads, torch.from_numpy(rng.random(depth.shape)).float())

    return make


@pytest.fixture(scope="session")
def slow() -> Callable[[Views, Depths], SlowViews]:
    """The same views for the twin."""

    def convert(views: Views, depths: Depths) -> SlowViews:
        return SlowViews(
            images=views.images.double().numpy(),
            K=views.K.numpy(),
            world_from_cam=views.world_from_cam.numpy(),
            sizes=[(int(h), int(w)) for h, w in views.sizes],
            depth=depths.mode.double().numpy(),
            spread=depths.spread.double().numpy(),
        )

    return convert


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation by a vector (Rodrigues)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _pose(v: int, count: int) -> np.ndarray:
    """On an arc in front of the crate, looking at it, a little rolled."""
    angle = (v - (count - 1) / 2) * 0.14
    pose = np.eye(4)
    pose[:3, :3] = _rotation(np.array([1e-6, -angle, 0.03 * (v % 3)]))
    pose[:3, 3] = [2.2 * np.sin(angle), 0.12 * (v % 2), 0.8 - 2.2 * np.cos(angle)]
    return pose


def _cast(K: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour [3, H, W], z-depth [H, W] and ids [H, W] of a view."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    local = np.stack([x, y, np.ones(size)], -1) @ np.linalg.inv(K).T
    rays = local @ pose[:3, :3].T
    centre = pose[:3, 3]
    rays = np.where(rays == 0, 1e-12, rays)
    to_walls = (np.where(rays > 0, ROOM[1], ROOM[0]) - centre) / rays
    entry = (np.where(rays > 0, CRATE[0], CRATE[1]) - centre) / rays
    leave = (np.where(rays > 0, CRATE[1], CRATE[0]) - centre) / rays
    hit = (entry.max(-1) < leave.min(-1)) & (entry.max(-1) > 0)
    depth = np.where(hit, entry.max(-1), to_walls.min(-1))
    side = to_walls.argmin(-1)
    ids = np.where(hit, 6, 2 * side + (np.take_along_axis(rays, side[..., None], -1)[..., 0] > 0))
    return _texture(centre + rays * depth[..., None], ids), depth, ids


def _texture(points: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[3, H, W] in [0, 1]: waves of many directions and lengths on every surface, and a tint of its own."""
    rng = np.random.default_rng(5)
    waves = rng.normal(0, 7.0, (3, 6, 3))
    phase = rng.uniform(0, 6.28, (3, 6))
    pattern = np.sin(np.einsum("hwd,cnd->chwn", points, waves) + phase[:, None, None]).mean(-1)
    tint = rng.uniform(0.35, 0.65, (3, CLASSES))[:, ids]
    return (tint + 0.45 * pattern).clip(0, 1)
