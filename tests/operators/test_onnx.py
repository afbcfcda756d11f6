"""`onnx`: real networks exported and run, cards whose mistakes are named, files that stay in their folder.

Real weights (EfficientNet-Lite0) where a prediction is compared with its torch twin; graphs of one or two nodes,
whose results are known, where sizes, types and orders of channels are tried.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.efficientnet import find_weights, load_classifier
from pipeline.run import run_labeling
from pipeline.store import read_labels
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig
from schemas.errors import ConfigError, FrameError, MissingWeightsError, OperatorError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
LITE0 = {"scale": 255, "mean": [127, 127, 127], "std": [128, 128, 128]}
SEATS = range(423, 424), range(559, 560), range(765, 766), range(831, 832)
"""ImageNet's barber chair, folding chair, rocking chair and studio couch."""


class Features(nn.Module):
    """Stage 2 (8 px a cell) of EfficientNet-Lite0."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        (found,) = self.network.forward_intermediates(image, indices=[2], intermediates_only=True, stop_early=True)
        return found


class Seats(nn.Module):
    """How likely a cell of 32 px shows a seat, and how likely anything else, by the same network."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        seats = torch.zeros(1000)
        seats[[n for some in SEATS for n in some]] = 1
        self.register_buffer("groups", torch.stack([seats, 1 - seats])[..., None, None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        last = self.network.classifier
        scores = nn.functional.conv2d(self.network.forward_features(image), last.weight[..., None, None], last.bias)
        return nn.functional.conv2d(scores.softmax(1), self.groups)


def exported(network: nn.Module, path: Path, card: dict[str, Any]) -> str:
    """The network as a file, with its card beside it; returns the SPEC."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.rand(1, 3, 96, 160),),
            str(path),
            dynamo=False,
            input_names=["image"],
            output_names=["map"],
            dynamic_axes={"image": {2: "height", 3: "width"}, "map": {2: "h", 3: "w"}},
        )
    path.with_suffix(".json").write_text(json.dumps(card))
    return f"onnx:{path}"


@pytest.fixture(scope="session")
def classifier() -> Any:
    try:
        find_weights()
    except MissingWeightsError:
        pytest.skip("the package with real weights is not installed")
    return load_classifier()


@pytest.fixture(scope="session")
def real(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SPECs of real weights: features, and classes."""
    folder = tmp_path_factory.mktemp("onnx")
    features = {"input": LITE0, "output": {"what": "features", "stride": 8}, "size": {"multiple_of": 32}}
    classes = {"input": LITE0, "output": {"what": "probabilities", "stride": 32, "names": ["seat", "other"]}}
    return {
        "features": exported(Features(classifier), folder / "features.onnx", features),
        "classes": exported(Seats(classifier), folder / "seats.onnx", classes),
    }


def prepared(images: torch.Tensor) -> torch.Tensor:
    return (images * 255 - 127) / 128


def test_real_features_are_those_of_the_torch_twin(real: dict[str, str], classifier: Any, make_batch: Any) -> None:
    operator = build_operator(real["features"])
    batch = make_batch((2, 96, 128))
    with torch.inference_mode():
        expected = Features(classifier)(prepared(batch.images))
    torch.testing.assert_close(operator.encode(batch), expected, atol=2e-4, rtol=1e-3)
    odd = make_batch((2, 70, 101))
    features = operator.encode(odd)
    check_encoded(operator, features, odd)
    assert features.shape == (2, 40, 9, 13)
    assert torch.equal(operator.encode(make_batch(odd.images[1:])), features[1:]), "features depend on the batch"


def test_real_classes_are_those_of_the_torch_twin(real: dict[str, str], classifier: Any, make_batch: Any) -> None:
    operator = build_operator(real["classes"])
    assert operator.label_set is not None and operator.label_set.names == ("seat", "other")
    batch = make_batch((1, 96, 128))
    with torch.inference_mode():
        expected = Seats(classifier)(prepared(batch.images))
    features = operator.encode(batch)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-3)
    scores = operator.decode(features, (96, 128))
    check_decoded(operator, scores, (96, 128), 1)
    torch.testing.assert_close(scores.sum(1), torch.ones(1, 96, 128), atol=1e-4, rtol=0)


def test_real_networks_keep_the_contract(real: dict[str, str], operator_contract: Any) -> None:
    for spec in real.values():
        operator_contract(spec, elsewhere=False)


def test_real_classes_of_a_room_are_lifted_and_stored(real: dict[str, str], sample_room: Path, tmp_path: Path) -> None:
    config = LabelingConfig(
        source=str(sample_room),
        store=str(tmp_path / "store"),
        operator=OperatorConfig(spec=real["classes"]),
        lift=LiftConfig(method="depth", sources=4),
        engine=EngineConfig(kind="local"),
    )
    summary = run_labeling(config)
    assert (summary.frames_labelled, summary.frames_quarantined) == (24, 0)
    rows = read_labels(config.store)
    assert set(rows["kind"]) == {"classes"}
    found = {int(i) for ids in rows["class_ids"] for i in ids}
    assert 1 in found and found <= {1, 2}, "some seats, and nothing but seats and others"


FLOAT, BYTE, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8, onnx.TensorProto.INT64
ANY = [1, 3, "height", "width"]


def graph(path: Path, nodes: list[Any], card: dict[str, Any] | None, **ends: Any) -> str:
    """A model of a few nodes from `x` to `y`, and its card."""
    given, made = ends.get("given", (FLOAT, ANY)), ends.get("made", (FLOAT, [1, "c", "h", "w"]))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "small",
            [onnx.helper.make_tensor_value_info("x", *given)],
            [onnx.helper.make_tensor_value_info("y", *made)],
            ends.get("constants", []),
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, str(path))
    if card is not None:
        path.with_suffix(".json").write_text(json.dumps(card))
    return f"onnx:{path}"


def node(kind: str, *inputs: str, out: str = "y", **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, list(inputs), [out], **attributes)


def test_an_image_goes_in_and_comes_out_as_the_card_says(tmp_path: Path, make_batch: Any) -> None:
    """Bytes, BGR, channels last: the identity of them is the image, its channels turned."""
    card = {
        "input": {"scale": 255, "layout": "NHWC", "channels": "bgr"},
        "output": {"what": "image", "layout": "NHWC", "scale": 1 / 255},
    }
    ends = {"given": (BYTE, [1, "h", "w", 3]), "made": (FLOAT, [1, "h", "w", 3])}
    operator = build_operator(graph(tmp_path / "m.onnx", [node("Cast", "x", to=FLOAT)], card, **ends))
    batch = make_batch((2, 13, 17))
    found = operator.decode(operator.encode(batch), (13, 17))
    check_decoded(operator, found, (13, 17), 2)
    torch.testing.assert_close(found.flip(1), batch.images, atol=0.5 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("form", ["logits", "probabilities", "ids"])
def test_every_form_of_classes(tmp_path: Path, make_batch: Any, form: str) -> None:
    """The brightest of three channels, as logits, as probabilities and as ids."""
    nodes = {
        "logits": [node("Identity", "x")],
        "probabilities": [node("Softmax", "x", axis=1)],
        "ids": [node("ArgMax", "x", axis=1, keepdims=0)],
    }[form]
    made = (INT, [1, "h", "w"]) if form == "ids" else (FLOAT, [1, 3, "h", "w"])
    card = {"output": {"what": form, "names": ["red", "green", "blue"]}, "input": {"scale": 9}}
    operator = build_operator(graph(tmp_path / "m.onnx", nodes, card, made=made))
    batch = make_batch((2, 11, 14))
    scores = operator.decode(operator.encode(batch), (11, 14))
    check_decoded(operator, scores, (11, 14), 2)
    assert torch.equal(scores.argmax(1), batch.images.argmax(1))
    expected = nn.functional.one_hot(batch.images.argmax(1), 3).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(scores, expected if form == "ids" else (9 * batch.images).softmax(1))


def test_ids_of_a_label_set_are_moved_and_strangers_cost_their_frame(tmp_path: Path, make_batch: Any) -> None:
    nodes = [node("ArgMax", "x", axis=1, keepdims=1)]
    card = {"output": {"what": "ids", "label_set": "voc21", "id_offset": 7}}
    made = (INT, [1, 1, "h", "w"])
    operator = build_operator(graph(tmp_path / "m.onnx", nodes, card, made=made))
    batch = make_batch((1, 8, 9))
    ids = torch.tensor(operator.label_set.ids)[operator.encode(batch).argmax(1)] if operator.label_set else None
    assert ids is not None and torch.equal(ids, batch.images.argmax(1) + 7)
    card["output"]["id_offset"] = 20
    beyond = build_operator(graph(tmp_path / "m.onnx", nodes, card, made=made))
    with pytest.raises(FrameError, match="id 2[12] is no class of 'voc21'.*id_offset"):
        beyond.encode(batch)


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_one_size_only_is_letterboxed_and_fetched_back(tmp_path: Path, make_batch: Any, fit: str) -> None:
    """A network that takes 48 x 64 px sees every image at that size, and its prediction comes back in place."""
    card = {"size": {"height": 48, "width": 64, "fit": fit}, "output": {"what": "scalar"}}
    nodes = [node("ReduceMean", "x", axes=[1])]
    ends = {"given": (FLOAT, [1, 3, 48, 64]), "made": (FLOAT, [1, 1, 48, 64])}
    operator = build_operator(graph(tmp_path / "m.onnx", nodes, card, **ends))
    ramp = torch.linspace(0, 1, 130).expand(1, 3, 75, 130)
    found = operator.decode(operator.encode(make_batch(ramp)), (75, 130))
    check_decoded(operator, found, (75, 130), 1)
    torch.testing.assert_close(found[0, 0, :, 5:-5], ramp[0, 0, :, 5:-5], atol=2e-3, rtol=0)


def test_images_are_padded_to_multiples_and_cells_are_cropped(tmp_path: Path, make_batch: Any) -> None:
    card = {"size": {"multiple_of": 8}, "output": {"what": "features", "stride": 4}}
    nodes = [node("AveragePool", "x", kernel_shape=[4, 4], strides=[4, 4])]
    operator = build_operator(graph(tmp_path / "m.onnx", nodes, card))
    batch = make_batch((2, 18, 21))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    padded = nn.functional.pad(batch.images, (0, 3, 0, 6), mode="replicate")
    torch.testing.assert_close(features, nn.functional.avg_pool2d(padded, 4)[..., :5, :6])


def test_the_card_and_the_weights_are_in_the_fingerprint(tmp_path: Path) -> None:
    spec = graph(tmp_path / "m.onnx", [node("Identity", "x")], {"output": {"what": "features"}})
    first = build_operator(spec).fingerprint()
    assert build_operator(spec).fingerprint() == first
    (tmp_path / "m.json").unlink()
    (tmp_path / "m.yaml").write_text("output: {what: features}\n")
    assert build_operator(spec).fingerprint() == first, "the same card in YAML"
    (tmp_path / "m.yaml").write_text("output: {what: features, scale: 2}\n")
    second = build_operator(spec).fingerprint()
    graph(tmp_path / "m.onnx", [node("Relu", "x")], None)
    assert len({first, second, build_operator(spec).fingerprint()}) == 3


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (None, r"one file m.json or .yaml beside it, found no file"),
        ("{", r"m.json cannot be read"),
        ("a: &a [1]\noutput: {what: features, names: *a}", r"m.json cannot be read: it has YAML aliases"),
        ({}, "output is not set"),
        ({"output": {"what": "masks"}}, "output.what: Input should be 'logits'"),
        ({"output": {"what": "features", "strid": 8}}, "output.strid is no field"),
        ({"output": {"what": "features"}, "input": {"mean": [1, 2]}}, "input.mean.2 is not set|input.mean"),
        ({"output": {"what": "features"}, "input": {"std": [1, 0, 1]}}, "input: scale and std must not be 0"),
        ({"output": {"what": "features"}, "size": {"height": 9}}, "size: height and width go together"),
        ({"output": {"what": "features", "stride": 8}, "size": {"multiple_of": 12}}, "multiple of output.stride"),
        ({"output": {"what": "logits"}}, "output: give either label_set or names"),
        ({"output": {"what": "image", "names": ["a"]}}, "are for classes, not for image"),
        ({"output": {"what": "logits", "label_set": "nyu40"}}, "it has 3 classes, label set 'nyu40' 40"),
        ({"output": {"what": "logits", "label_set": "nyu41"}}, "label set 'nyu41' is not known"),
        ({"output": {"what": "features", "stride": 2}}, "expected 48 x 80 cells.*output.stride"),
        ({"output": {"what": "scalar"}}, "scalar with 3 channels, expected 1.*output.what"),
        ({"output": {"what": "features", "name": "z"}}, "output.name is 'z'.*it has y"),
        ({"output": {"what": "features"}, "input": {"name": "z"}}, "input.name is 'z'.*it has x"),
        ({"output": {"what": "features"}, "input": {"layout": "NHWC"}}, "layout NHWC.*input.layout"),
    ],
)
def test_mistakes_of_a_card_are_named(tmp_path: Path, card: Any, says: str) -> None:
    spec = graph(tmp_path / "m.onnx", [node("Identity", "x")], None)
    if card is not None:
        (tmp_path / "m.json").write_text(card if isinstance(card, str) else json.dumps(card))
    with pytest.raises((ConfigError, MissingWeightsError), match=says):
        build_operator(spec)


@pytest.mark.parametrize(
    ("ends", "nodes", "error", "says"),
    [
        ({"given": (FLOAT, [1, 3, 32, 32])}, None, ConfigError, "one size only.*size.height and size.width"),
        ({"given": (FLOAT, [4, 3, "h", "w"])}, None, ConfigError, "expected one image"),
        ({"given": (FLOAT, [1, 4, "h", "w"])}, None, ConfigError, "expected an RGB image"),
        ({"given": (INT, ANY), "made": (INT, ANY)}, None, ConfigError, r"is tensor\(int64\)"),
        ({"made": (FLOAT, [1, 3])}, [node("ReduceMean", "x", axes=[2, 3], keepdims=0)], ConfigError, r"is \[1, 3\]"),
        ({}, [node("NoSuchOperation", "x")], OperatorError, "cannot be run"),
        ({}, [node("Add", "x", "k")], OperatorError, "does not take an image of 96 x 160 px"),
    ],
)
def test_models_that_cannot_be_used(
    tmp_path: Path, ends: dict[str, Any], nodes: Any, error: type[Exception], says: str
) -> None:
    constant = onnx.numpy_helper.from_array(np.ones((1, 3, 7, 7), np.float32), "k")
    card = {"output": {"what": "features"}}
    spec = graph(tmp_path / "m.onnx", nodes or [node("Identity", "x")], card, constants=[constant], **ends)
    with pytest.raises(error, match=says):
        build_operator(spec)


def with_data(folder: Path, location: str) -> str:
    """A model whose one weight lies in another file."""
    constant = onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "k")
    spec = graph(
        folder / "m.onnx",
        [node("Mul", "x", "k")],
        {"output": {"what": "features"}},
        constants=[constant],
    )
    model = onnx.load(folder / "m.onnx")
    (tensor,) = model.graph.initializer
    onnx.external_data_helper.set_external_data(tensor, location=location, offset=0, length=12)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return spec


def test_data_beside_the_model_is_read_and_fingerprinted(tmp_path: Path, make_batch: Any) -> None:
    (tmp_path / "w.bin").write_bytes(np.full(3, 2, np.float32).tobytes())
    operator = build_operator(with_data(tmp_path, "w.bin"))
    batch = make_batch((1, 5, 6))
    torch.testing.assert_close(operator.encode(batch), 2 * batch.images)
    first = operator.fingerprint()
    (tmp_path / "w.bin").write_bytes(np.full(3, 3, np.float32).tobytes())
    assert build_operator(f"onnx:{tmp_path}/m.onnx").fingerprint() != first


@pytest.mark.parametrize("way", ["../secret.bin", "ABSOLUTE", "link.bin", "sub/../../secret.bin"])
def test_data_outside_the_models_folder_is_refused(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.full(3, 2, np.float32).tobytes())
    os.symlink(secret, folder / "link.bin")
    with pytest.raises(OperatorError, match="refers to data outside its folder"):
        build_operator(with_data(folder, way.replace("ABSOLUTE", str(secret))))


def test_files_that_are_absent_or_no_models(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="there is no file /absent.onnx"):
        build_operator("onnx:/absent.onnx")
    with pytest.raises(MissingWeightsError, match="needs 'w.bin' beside it"):
        build_operator(with_data(tmp_path, "w.bin"))
    (tmp_path / "m.onnx").write_bytes(b"garbage" * 99)
    with pytest.raises(OperatorError, match="is no ONNX file"):
        build_operator(f"onnx:{tmp_path}/m.onnx")
