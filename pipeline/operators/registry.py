"""Operators by SPEC: `name`, `name:argument`, `package.module:Class`, or one made of others, `tta(indoor; flips)`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pipeline.operators.catalogue import BUILT_IN, OperatorInfo
from pipeline.operators.composed.catalogue import COMPOSED
from pipeline.operators.contract import check_operator
from pipeline.operators.spec import PYTHON, Call, is_call, parse, render
from pipeline.protocols import Operator
from schemas.errors import ConfigError, OperatorError, UnknownNameError

ENTRY_POINT_GROUP = "lift3d.operators"
KNOWN: Mapping[str, tuple[str, OperatorInfo]] = {**BUILT_IN, **COMPOSED}


def list_operators() -> list[OperatorInfo]:
    """Built-in operators, then those that installed packages register as `lift3d.operators`. Imports none."""
    third_party = [_describe(point) for name, point in _registered().items() if name not in KNOWN]
    return [info for _, info in KNOWN.values()] + third_party


def build_operator(spec: str, kwargs: Mapping[str, Any] | None = None, device: str = "cpu") -> Operator:
    """Build and check the operator that `spec` names.

    Args:
        spec: `name`, `name:argument` (the argument becomes the first positional one), `package.module:Class`, which
            may begin with `python:`, or a call such as `tta(indoor; flips)` (`pipeline.operators.spec` has the
            grammar).
        kwargs: its keyword arguments (`operator.kwargs` of the config); of a call, those of the outermost operator.
        device: torch device, handed on as `device=` where the constructor takes it.

    Raises UnknownNameError (with the nearest name), ConfigError (arguments that it does not take),
    MissingWeightsError, OperatorError (it cannot be imported or built) or ContractError (it breaks the protocol).
    """
    if is_call(spec):
        return _build_call(parse(spec), spec, kwargs or {}, device)
    factory, positional = _resolve(spec)
    return _construct(spec, factory, positional, dict(kwargs or {}), device)


def _build_call(call: Call, spec: str, kwargs: Mapping[str, Any], device: str) -> Operator:
    """What a call describes, from the inside out."""
    text = spec if call.argument is None else f"{call.name}:{call.argument}"
    factory, positional = _resolve(call.name)
    if any(isinstance(item, Call) for item in call.items) and not getattr(factory, "takes_operators", False):
        raise ConfigError(
            f"operator {call.name!r} is not made of other operators, found {render(call)!r:.200}",
            remedy='write a text as its argument in quotes: name("text")',
        )
    twice = sorted(set(kwargs) & set(call.options))
    if twice:
        raise ConfigError(
            f"operator {spec!r}: {twice[0]!r} is given in the SPEC and in operator.kwargs", remedy="give it once"
        )
    items = [_build_call(item, render(item), {}, device) if isinstance(item, Call) else item for item in call.items]
    argument = () if call.argument is None else (call.argument,)
    return _construct(text, factory, (*positional, *argument, *items), {**call.options, **kwargs}, device)


def _construct(
    spec: str, factory: Callable[..., Any], positional: tuple[Any, ...], arguments: dict[str, Any], device: str
) -> Operator:
    parameters = _bind(spec, factory, positional, arguments)
    if "device" in parameters:
        arguments["device"] = device
    try:
        operator = factory(*positional, **arguments)
    except (TypeError, ValueError, OSError, RuntimeError, ImportError) as error:
        raise OperatorError(f"operator {spec!r} cannot be built: {type(error).__name__}: {error}") from error
    return check_operator(operator, spec)


def _resolve(spec: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The class that `spec` names and its positional arguments."""
    name, colon, argument = spec.strip().partition(":")
    if name == PYTHON:
        module, _, attribute = argument.partition(":")
        return _import(spec, module, attribute), ()
    positional = (argument,) if argument else ()
    if name in KNOWN:
        return _import(spec, *KNOWN[name][0].split(":")), positional
    if name in _registered():
        point = _registered()[name]
        return _import(spec, point.module, point.attr), positional
    if colon and "." in name:
        return _import(spec, name, argument), ()
    raise _unknown(spec, name)


def _unknown(spec: str, name: str) -> UnknownNameError:
    known = [*KNOWN, *_registered()]
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return UnknownNameError(
        f"operator {spec!r} is not known",
        remedy=f"{hint}known: {', '.join(known)}, or package.module:Class for a class of your own",
    )


def _import(spec: str, module: str, attribute: str) -> Callable[..., Any]:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", f"{module}:{attribute}"):
        raise ConfigError(f"operator {spec!r} is not of the form package.module:Class")
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise OperatorError(
            f"operator {spec!r} cannot be imported: {error}",
            remedy="install its package or add the folder that holds it to PYTHONPATH",
        ) from error
    if not callable(found):
        raise ConfigError(f"operator {spec!r}: {attribute} is a {type(found).__name__}, expected a class")
    return found


def _bind(
    spec: str, factory: Callable[..., Any], positional: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters. Raises ConfigError where the arguments do not fit them."""
    signature = inspect.signature(factory)
    accepted = [name for name, p in signature.parameters.items() if name != "device" and p.kind is not p.VAR_KEYWORD]
    try:
        if "device" in kwargs:
            raise TypeError("the device is set by engine.device")
        signature.bind(*positional, **kwargs)
    except TypeError as error:
        takes = ", ".join(str(signature.parameters[name]).split(":")[0] for name in accepted) or "no arguments"
        raise ConfigError(f"operator {spec!r}: {error}", remedy=f"it takes: {takes} (operator.kwargs)") from None
    return signature.parameters


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _describe(point: EntryPoint) -> OperatorInfo:
    package = point.dist.name if point.dist else point.module
    return OperatorInfo(
        point.name, f"third-party operator {point.value}", "see its package", package, "see its package"
    )
