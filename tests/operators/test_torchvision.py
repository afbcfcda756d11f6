"""`torchvision`: scores before the argmax, classes that are known or said, weights that are there or named.

The checkpoints are randomly initialised, written to files and loaded as a user would: plumbing and arithmetic.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

torchvision = pytest.importorskip("torchvision")
NETWORKS = {
    "lraspp_mobilenet_v3_large": {"num_classes": 21, "weights_backbone": None},
    "deeplabv3_mobilenet_v3_large": {"num_classes": 3, "weights_backbone": None, "aux_loss": True},
    "mobilenet_v3_small": {},
}
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Name -> (network, file of its state dict), randomly initialised: plumbing."""
    folder, made = tmp_path_factory.mktemp("torchvision"), {}
    torch.manual_seed(0)
    for name, options in NETWORKS.items():
        network = torchvision.models.get_model(name, weights=None, **options).eval()
        made[name] = (network, folder / f"{name}.pth")
        torch.save(network.state_dict(), made[name][1])
    return made


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("lraspp_mobilenet_v3_large", {"label_set": "voc21"}),
        ("deeplabv3_mobilenet_v3_large", {"names": ["wall", "floor", "cat"]}),
    ],
)
def test_plumbing_probabilities_are_the_softmax_of_torchvisions_output(
    networks: Any, make_batch: Any, name: str, kwargs: dict[str, Any]
) -> None:
    network, file = networks[name]
    operator = build_operator(f"torchvision:{name}/{file}", kwargs)
    batch = make_batch((2, 80, 96))
    with torch.inference_mode():
        expected = torch.cat([network((image - MEAN) / STD)["out"] for image in batch.images.split(1)]).softmax(1)
    found = operator.decode(operator.encode(batch), (80, 96))
    check_decoded(operator, found, (80, 96), 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    odd = make_batch((2, 70, 101))
    check_encoded(operator, operator.encode(odd), odd)
    assert torch.equal(operator.encode(odd)[1:], operator.encode(make_batch(odd.images[1:])))


def test_plumbing_keeps_the_contract(networks: Any, operator_contract: Any) -> None:
    name = "lraspp_mobilenet_v3_large"
    operator_contract(f"torchvision:{name}/{networks[name][1]}", {"label_set": "voc21"}, elsewhere=False)
    name = "mobilenet_v3_small"
    spec = f"torchvision:{name}/{networks[name][1]}"
    operator_contract(spec, {"node": "features.3"}, variation={"node": "features.8"}, elsewhere=False)


@pytest.mark.parametrize(("node", "cell"), [("features.0", 2), ("features.3", 8), ("features.12", 32)])
def test_plumbing_features_of_a_classifiers_node(networks: Any, make_batch: Any, node: str, cell: int) -> None:
    network, file = networks["mobilenet_v3_small"]
    operator = build_operator(f"torchvision:mobilenet_v3_small/{file}", {"node": node})
    batch = make_batch((1, 64, 96))
    with torch.inference_mode():
        expected = network.features[: int(node.split(".")[1]) + 1]((batch.images - MEAN) / STD).permute(0, 2, 3, 1)
    expected = torch.nn.functional.layer_norm(expected, expected.shape[-1:]).permute(0, 3, 1, 2)
    assert operator.stride == cell and operator.kind == "features"
    torch.testing.assert_close(operator.encode(batch), expected, atol=1e-5, rtol=1e-4)


def test_a_published_file_is_known_by_its_digest(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's files end with the first digits of their digest; the test says that ours is one of them."""
    name = "lraspp_mobilenet_v3_large"
    file = networks[name][1]
    with pytest.raises(ConfigError, match="nothing says what its 21 classes are"):
        build_operator(f"torchvision:{name}/{file}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    published = torchvision.models.get_model_weights(name).DEFAULT
    monkeypatch.setattr(published._value_, "url", f"https://example.org/lraspp-{digest}.pth")
    operator = build_operator(f"torchvision:{name}/{file}")
    assert operator.label_set is not None and operator.label_set.name == "voc21"


def test_plumbing_safetensors_are_the_same_operator(networks: Any, tmp_path: Path) -> None:
    name = "mobilenet_v3_small"
    network, file = networks[name]
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    specs = [f"torchvision:{name}/{path}" for path in (file, tmp_path / "w.safetensors")]
    assert len({build_operator(spec, {"node": "features.3"}).fingerprint() for spec in specs}) == 1


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every download is refused, and nothing is in torch's cache."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("spec", "kwargs", "error", "says"),
    [
        (
            "fcn_resnet50",
            {},
            MissingWeightsError,
            "without internet: download https://.*fcn_resnet50_coco.*name the file",
        ),
        ("fcn_resnet5", {}, UnknownNameError, "did you mean 'fcn_resnet50'"),
        ("fcn_resnet50/VOC", {}, UnknownNameError, "has no weights 'VOC'.*COCO_WITH_VOC_LABELS_V1"),
        ("fcn_resnet50//absent.pth", {}, MissingWeightsError, "cannot load /absent.pth"),
        ("fcn_resnet50", {"node": "layer3"}, ConfigError, "segmentation model.*leave out node"),
        ("resnet18", {}, ConfigError, "classifier.*name the node"),
        ("maskrcnn_resnet50_fpn", {}, ConfigError, "predicts neither"),
        ("mobilenet_v3_small/FILE", {"node": "features.99"}, ConfigError, "no node 'features.99'.*for example"),
        ("mobilenet_v3_small/FILE", {"node": "classifier.0"}, ConfigError, "node with a map"),
        ("mobilenet_v3_large/FILE", {"node": "features.3"}, MissingWeightsError, "of this very model"),
        ("lraspp_mobilenet_v3_large/FILE", {"label_set": "nyu40"}, ConfigError, "it has 21 classes.*40"),
        ("lraspp_mobilenet_v3_large/FILE", {"names": ["a"], "label_set": "voc21"}, ConfigError, "both"),
        ("deeplabv3_mobilenet_v3_large/FILE", {"names": "abc"}, ConfigError, "list of texts"),
        ("lraspp_mobilenet_v3_large/BAD", {"label_set": "voc21"}, MissingWeightsError, "cannot load"),
        ("lraspp_mobilenet_v3_large/PART", {"label_set": "voc21"}, MissingWeightsError, "Missing key"),
    ],
)
def test_mistakes_are_named(
    networks: Any, tmp_path: Path, spec: str, kwargs: dict[str, Any], error: type[Exception], says: str
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"garbage" * 99)
    state = networks["lraspp_mobilenet_v3_large"][0].state_dict()
    state.pop("backbone.0.0.weight")
    torch.save(state, tmp_path / "part.pth")
    name = spec.split("/")[0]
    file = networks[name][1] if name in networks else networks["mobilenet_v3_small"][1]
    given = (
        spec.replace("FILE", str(file)).replace("BAD", f"{tmp_path}/bad.pth").replace("PART", f"{tmp_path}/part.pth")
    )
    with pytest.raises(error, match=says):
        build_operator(f"torchvision:{given}", kwargs)
