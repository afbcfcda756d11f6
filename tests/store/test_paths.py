"""Names: readable, path-safe, deterministic, and never the same for different things."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import operator_slug
from pipeline.store.paths import LABELS, Shelf, chunk_of, decode_scene, encode_scene, label_stem, parse
from schemas.errors import StoreError

SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]*")
specs = st.one_of(
    st.text(min_size=1, max_size=40),
    st.from_regex(r"[a-z]{1,6}(:[a-zA-Z0-9_./-]{1,12})?", fullmatch=True),
    st.from_regex(r"[a-z]{1,3}-[0-9a-f]{8}", fullmatch=True),
)
scenes = st.text(min_size=1, max_size=20).filter(lambda scene: scene.isprintable() or not scene.isascii())


@pytest.mark.parametrize("spec", ["indoor", "dino", "open_clip", "clip-vit.b16", "x"])
def test_a_plain_name_stays_itself(spec):
    assert operator_slug(spec) == spec


@pytest.mark.parametrize(
    ("spec", "readable"),
    [
        ("precomputed:data/noisy", "precomputed-noisy"),
        ("precomputed:/a/b/noisy labels/", "precomputed-noisy-labels"),
        ("my.package:Segmenter", "my.package-segmenter"),
        ("Indoor", "indoor"),
        ("../..", "operator"),
        ("123", "123"),
    ],
)
def test_a_changed_name_stays_readable_and_carries_a_hash(spec, readable):
    assert re.fullmatch(re.escape(readable) + r"-[0-9a-f]{8}", operator_slug(spec))


@given(st.lists(specs, min_size=2, max_size=20, unique=True))
def test_different_operators_never_share_a_folder_even_where_case_is_ignored(found):
    slugs = [operator_slug(spec) for spec in found]
    assert all(SAFE.fullmatch(slug) and len(slug) < 100 for slug in slugs)
    assert len({slug.lower() for slug in slugs}) == len(found)


def test_an_operator_without_a_name_is_refused():
    with pytest.raises(StoreError, match="no name"):
        operator_slug("")


@given(scenes)
def test_a_scene_id_survives_its_folder_name(scene):
    try:
        segment = encode_scene(scene)
    except StoreError:
        assert any("\ud800" <= letter <= "\udfff" for letter in scene)
        return
    assert re.fullmatch(r"[A-Za-z0-9_.~%-]+", segment)
    assert decode_scene(segment) == scene
    shelf = Shelf("indoor", scene)
    assert parse(shelf.label(LABELS, "000-ab")) == (LABELS, shelf, "000-ab.parquet")


@pytest.mark.parametrize("scene", ["../x", "<script>", "a=b/c", "..", ".", "a b", "%41", "é"])
def test_a_hostile_scene_id_stays_one_folder_below_its_operator(scene):
    path = Shelf("indoor", scene).label(LABELS, "000-ab")
    assert path.count("/") == 3 and "/../" not in path and "<" not in path


@pytest.mark.parametrize("scene", ["", "\udc80", "x" * 300, "__HIVE_DEFAULT_PARTITION__"])
def test_a_scene_id_that_no_folder_can_carry_is_refused_with_a_remedy(scene):
    with pytest.raises(StoreError, match="rename"):
        encode_scene(scene)


@given(st.text(min_size=1, max_size=8), st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4))
def test_a_file_name_depends_on_its_frames_in_order(chunk, frames):
    stem = label_stem(chunk, frames) if chunk.isascii() else label_stem("7", frames)
    assert stem == label_stem(chunk_of(stem), frames)
    assert label_stem("7", [*frames, ("f", "g")]) != label_stem("7", frames)
    assert re.fullmatch(r"[^/]*-[0-9a-f]{12}", stem)


@pytest.mark.parametrize("path", ["labels/x.parquet", "labels/operator=a/x", "labels/operator=a/scene=b/c/d", "x", ""])
def test_a_path_of_another_layout_is_not_ours(path):
    assert parse(path) is None
