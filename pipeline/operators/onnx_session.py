"""An ONNX file that is run: checked for files outside its folder, one thread, a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.operators.weights import summary
from schemas.errors import ConfigError, MissingWeightsError, OperatorError

REMEDY = "pip install 'lift3d-labeling[onnx]'"


def open_session(file: Path, device: str) -> tuple[Any, list[Path]]:
    """(session of onnxruntime, the files that it was read from).

    Raises MissingWeightsError where a package or a file is absent, OperatorError for a file that is no model or refers
    to data outside its folder.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingWeightsError(f"onnx: {error}", remedy=REMEDY) from error
    files = [file, *external_files(file)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=_providers(onnxruntime, device)), files
    except runtime_errors() as error:
        raise OperatorError(f"onnx: {file} cannot be run: {summary(error)}") from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for models and images that it cannot use: they have no base class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (getattr(state, name) for name in dir(state))
    return tuple(one for one in found if isinstance(one, type) and issubclass(one, Exception))


def external_files(file: Path) -> list[Path]:
    """Files that hold a model's tensors. Raises OperatorError where one is outside the model's folder or absent."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingWeightsError(f"onnx: {error}", remedy=REMEDY) from error
    try:
        model = onnx.load(str(file), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise OperatorError(f"onnx: {file} is no ONNX file: {summary(error)}") from error
    folder = file.parent.resolve()
    return sorted({_inside(folder, location, file) for location in _locations(model)})


def _inside(folder: Path, location: str, file: Path) -> Path:
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise OperatorError(
            f"onnx: {file} refers to data outside its folder: {location!r:.200}",
            remedy="put the model and its data into one folder, without links",
        )
    if not path.is_file():
        raise MissingWeightsError(f"onnx: {file} needs {location!r:.200} beside it", remedy="put it there")
    return path


def _locations(message: Any) -> Iterator[str]:
    """Where tensors lie that are not in the file, wherever in the model they are."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        if message.data_location == TensorProto.EXTERNAL:
            yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in (value,) if hasattr(value, "ListFields") else value:
                yield from _locations(one)


def _providers(onnxruntime: Any, device: str) -> list[Any]:
    """CPU, behind the GPU where the device is one and this build of onnxruntime has it."""
    cpu = "CPUExecutionProvider"
    name, _, number = device.partition(":")
    if name == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": number or "0"}), cpu]
    return [cpu]


def pick(what: str, name: str | None, nodes: list[Any]) -> Any:
    """The model's input or output of a name, or the only one. Raises ConfigError that lists them."""
    names = ", ".join(node.name for node in nodes)
    if name is None:
        if len(nodes) == 1:
            return nodes[0]
        raise ConfigError(f"onnx: the model has {len(nodes)} {what}s", remedy=f"set {what}.name: {names}")
    found = [node for node in nodes if node.name == name]
    if not found:
        raise ConfigError(f"onnx: {what}.name is {name!r}, which the model lacks", remedy=f"it has {names}")
    return found[0]
