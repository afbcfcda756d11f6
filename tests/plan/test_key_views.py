"""Key views of long scenes: as many as the path needs, however often it was photographed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.key_views import LEAST_KEYS, STEP, TURN, key_views
from pipeline.view_selection import select_sources
from schemas.camera import Camera

DEPTH = 2.5


def _walk(count: int, turns: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Centres and rotations of a camera that looks outwards on a wavy circle; more views are closer together."""
    along = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centres = np.stack([2 * np.cos(along), 0.2 * np.sin(5 * along), 2 * np.sin(along)], axis=1)
    zero, one = np.zeros(count), np.ones(count)
    x, z = (np.stack([np.cos(turns * along + s), zero, np.sin(turns * along + s)], axis=1) for s in (0, np.pi / 2))
    return centres, np.stack([x, np.stack([zero, one, zero], axis=1), z], axis=1)


def _random_rotation(seed: int) -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return rotation * np.linalg.det(rotation)


@pytest.mark.parametrize("count", [0, 1, LEAST_KEYS])
def test_short_scenes_keep_every_view(count):
    assert key_views(*_walk(count), DEPTH).tolist() == list(range(count))


def test_every_view_is_next_to_a_key_view():
    centres, rotations = _walk(1200, turns=5.0)
    keys = key_views(centres, rotations, DEPTH)
    assert LEAST_KEYS < len(keys) < 600
    for centre, rotation in zip(centres, rotations, strict=True):
        way = np.linalg.norm(centres[keys] - centre, axis=1)
        cosine = (np.einsum("kij,ij->k", rotations[keys], rotation) - 1) / 2
        assert ((way <= STEP * DEPTH + 1e-9) & (np.arccos(cosine.clip(-1, 1)) <= TURN + 1e-6)).any()


def test_photographing_more_often_gives_no_more_of_them():
    few, many = (len(key_views(*_walk(count), DEPTH)) for count in (600, 4800))
    assert many < 1.3 * few


def test_one_place_seen_a_thousand_times_still_gives_the_least():
    centres, rotations = np.zeros((1000, 3)), np.tile(np.eye(3), (1000, 1, 1))
    assert len(key_views(centres, rotations, DEPTH)) == LEAST_KEYS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999), st.floats(0.01, 100.0))
def test_frame_unit_and_order_do_not_matter(seed, scale):
    centres, rotations = _walk(500, turns=3.0)
    rng = np.random.default_rng(seed)
    centres = centres + rng.normal(scale=0.01, size=centres.shape)
    keys = key_views(centres, rotations, DEPTH)
    world, shift = _random_rotation(seed), rng.normal(size=3)
    moved = scale * (centres @ world.T + shift), rotations @ world.T
    assert key_views(*moved, scale * DEPTH).tolist() == keys.tolist()
    order = rng.permutation(len(centres))
    shuffled = key_views(centres[order], rotations[order], DEPTH)
    assert sorted(order[shuffled].tolist()) == keys.tolist()


def test_views_of_a_long_scene_share_their_sources():
    """Eight times as many photos of one path, and hardly more views that anyone looks at."""
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])

    def looked_at(count):
        poses = np.tile(np.eye(4), (count, 1, 1))
        centres, rotations = _walk(count)
        poses[:, :3, :3], poses[:, :3, 3] = rotations.transpose(0, 2, 1), centres
        sources = select_sources([Camera(K, pose, 240, 320) for pose in poses], 16, (1.5, DEPTH, 4.0))
        assert all(len(views) == len({*views} - {view}) == 16 for view, views in enumerate(sources))
        return len({view for views in sources for view in views})

    assert looked_at(2400) < 1.5 * looked_at(300)
