"""The page of a store: what is on it, in which order, and that nothing in a store can break out of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.report.report import write_report
from pipeline.store import Store
from schemas.errors import ConfigError, DatasetError, StoreError
from schemas.label_sets import LabelSet

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>document.title='broken into'</script>"
CHROMIUM = shutil.which("chromium")


class Tags(HTMLParser):
    """Names of all elements, and the values of attributes that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]


def headings(text: str) -> list[str]:
    return re.findall(r"<h4>(.*?)</h4>", text)


def test_the_worst_frames_come_first(shop, page) -> None:
    store = shop.write("store", [shop.frame(str(i)) for i in range(4)])
    text = page(store)
    assert headings(text) == [f"room / {i}" for i in (3, 2, 1, 0)]
    assert "Frames, lowest source agreement first" in text


def test_only_so_many_frames_are_shown_but_all_are_counted(shop, page) -> None:
    store = shop.write("store", [shop.frame(str(i)) for i in range(7)])
    text = page(store, most_frames=2)
    assert headings(text) == ["room / 6", "room / 5"]
    assert "2 of 7 frames" in text


def test_the_page_loads_nothing_and_runs_nothing(shop, page) -> None:
    shop.write("store", [shop.frame(HOSTILE), shop.frame("1")], spec=HOSTILE)
    shop.quarantine("store", HOSTILE, f"cannot read {HOSTILE}")
    text = page(str(shop.root / "store"))
    tags = Tags(text)
    assert "script" not in tags.names
    assert tags.loads
    assert all(value.startswith("data:image/") for value in tags.loads)
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;script&gt;" in text


def hostile_labels() -> LabelSet:
    """Two classes whose names, and whose set's name, would break out of an attribute or an element."""
    names = ('"><img src=x onerror=alert(1)>', "' style='background:url(http://host/x)")
    return LabelSet(name=HOSTILE, ids=(1, 2), names=names, colors=((1, 2, 3), (4, 5, 6)), ignore_id=0)


def test_names_of_scenes_and_classes_change_texts_only(shop, page) -> None:
    plain = Tags(page(shop.write("plain", [shop.frame("1")])))
    hostile = page(shop.write("store", [shop.frame("1")], scene=HOSTILE, labels=hostile_labels()))
    assert Tags(hostile).names == plain.names
    assert len(Tags(hostile).loads) == len(plain.loads)
    assert "&#34;&gt;&lt;img src=x onerror=alert(1)&gt;" in hostile
    assert '<meta http-equiv="Content-Security-Policy" content="default-src ' in hostile


def test_equal_stores_make_equal_pages(shop, page) -> None:
    store = shop.write("store", [shop.frame("0"), shop.frame("1")])
    assert page(store) == page(store)


@pytest.mark.parametrize("kind", ["features", "image", "scalar"])
def test_other_kinds_have_their_own_pictures(shop, page, kind) -> None:
    text = page(shop.write("store", [shop.frame("0")], kind=kind))
    assert Tags(text).names.count("img") == 3
    assert "Classes</h3>" not in text


def test_several_operators_have_a_section_each(shop, page) -> None:
    shop.write("store", [shop.frame("0")])
    store = shop.write("store", [shop.frame("0")], spec="dino", kind="features")
    assert re.findall(r"<h2>(.*?)</h2>", page(store)) == ["dino", "indoor", "Quarantine"]


def test_quarantine_says_what_and_why(shop, page) -> None:
    store = shop.write("store", [shop.frame("0")])
    assert "No frame was set aside." in page(store)
    shop.quarantine("store", "7", "the pose has NaN entries")
    text = page(store)
    assert all(part in text for part in ("pose_not_finite", "the pose has NaN entries", '<td class="text">7</td>'))


def test_a_store_with_nothing_but_quarantine_has_a_page(shop, page) -> None:
    Store(str(shop.root / "store")).prepare()
    shop.quarantine("store", "7", "the pose has NaN entries")
    text = page(str(shop.root / "store"))
    assert "the pose has NaN entries" in text
    assert headings(text) == []


def test_raw_labels_are_shown_where_they_are_and_explained_where_not(shop, page) -> None:
    store = shop.write("store", [shop.frame("0")])
    assert "no raw predictions" in page(store)
    shop.write("raw", [shop.frame("0")])
    assert "Changed by lifting" in page(store, raw_store=str(shop.root / "raw"))
    shop.write("store/_raw", [shop.frame("0")])
    assert "Changed by lifting" in page(store)


def test_an_image_that_is_gone_costs_its_panel_only(shop, page) -> None:
    text = page(shop.write("store", [shop.frame("0", "gone.png")]))
    assert "gone.png" in text
    assert Tags(text).names.count("img") == 2


def test_the_legend_has_the_classes_that_occur(shop, page) -> None:
    legend = re.search(r'<ul class="legend">(.*?)</ul>', page(shop.write("store", [shop.frame("0")])), re.DOTALL)
    assert legend is not None
    assert re.findall(r"</span>(.*?)</li>", legend[1]) == ["wall", "floor"]


def test_a_store_without_labels_is_an_error(shop) -> None:
    with pytest.raises(StoreError, match="no label"):
        write_report(str(shop.root / "nothing"), shop.root / "report.html")


def test_a_place_that_cannot_be_written_is_an_error(shop) -> None:
    store = shop.write("store", [shop.frame("0")])
    (shop.root / "file").touch()
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(store, shop.root / "file" / "report.html")


def test_ground_truth_of_another_scene_is_an_error(shop) -> None:
    store = shop.write("store", [shop.frame("0")])
    with pytest.raises(DatasetError, match="none of the store's scenes"):
        write_report(store, shop.root / "report.html", gt=str(ROOT / "examples" / "sample_room"))


def test_ground_truth_orders_by_miou_and_shows_what_is_wrong(shop, sample_room, page) -> None:
    from pipeline.evaluation.spoil import spoil_room
    from pipeline.run import run_labeling
    from schemas.config import parse_config

    operator = {"spec": f"precomputed:{spoil_room(sample_room, shop.root / 'noisy')}", "kwargs": {"label_set": "nyu40"}}
    store = str(shop.root / "store")
    run_labeling(
        parse_config(
            {
                "source": str(sample_room),
                "store": store,
                "operator": operator,
                "lift": {"method": "none"},
                "engine": {"kind": "local"},
            }
        )
    )
    text = page(store, gt=str(sample_room))
    shown = [float(value) for value in re.findall(r"<span>mIoU (.*?)</span>", text)]
    assert len(shown) == 24
    assert shown == sorted(shown)
    assert "Ground truth</figcaption>" in text
    assert "Wrong</figcaption>" in text
    assert "<td>lifted</td>" in text
    assert "not lifted" in text
    assert "no raw predictions" not in text


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_shows_the_rows_and_runs_nothing_from_names(shop, tmp_path) -> None:
    frames = [shop.frame(HOSTILE), shop.frame("1")]
    store = shop.write("store", frames, scene=HOSTILE, labels=hostile_labels())
    written = write_report(store, tmp_path / "report.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [str(CHROMIUM), *flags, profile, "--dump-dom", written.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert dom.count("<article>") == 2
    assert dom.count("<img ") == 6
    assert "<title>Labels in" in dom
    assert "<script" not in dom
    assert "onerror=alert" in dom  # as text
    assert dom.count("<img ") == dom.count('<img src="data:image/')
