"""Part f: the lift with one thing changed at a time, on labels with the usual noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lift3d_model import LiftSettings
from lift3d_model.corrector import CorrectorSettings
from pipeline.benchmark.cells import Cells
from pipeline.benchmark.labels import LabelCase, measure_lift
from pipeline.benchmark.lifts import Change, Memory, Variant
from pipeline.benchmark.options import NO_WEIGHTS, Options
from pipeline.benchmark.scenes import BenchScene
from schemas.config import LiftConfig


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is changed: the model's settings, the config's lift section, or nothing.

    Attributes:
        change: settings -> settings.
        config: fields of `LiftConfig` -> values.
        modes: geometries in which it changes anything.
    """

    change: Change | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("depth", "rgb")


def corrector_off(settings: LiftSettings) -> LiftSettings:
    """Sources speak as they are: class maps uncorrected, features not weighed by agreement."""
    return replace(settings, corrector=replace(settings.corrector, rounds=0))


def corrector_on(settings: LiftSettings) -> LiftSettings:
    """Features are weighed by agreement, as where the target's own are known."""
    return replace(settings, corrector=CorrectorSettings())


def colour_off(settings: LiftSettings) -> LiftSettings:
    """Weights and propagation look at geometry alone."""
    return replace(
        settings,
        evidence=replace(settings.evidence, colour_scale=None),
        propagation=replace(settings.propagation, colour_scale=None),
    )


def propagation_off(settings: LiftSettings) -> LiftSettings:
    """Every pixel goes by its own votes."""
    return replace(settings, propagation=replace(settings.propagation, rounds=0, source_rounds=0))


def visibility_off(settings: LiftSettings) -> LiftSettings:
    """A source speaks for a point whether its own depth agrees or not."""
    return replace(settings, evidence=replace(settings.evidence, tolerance=EVERYTHING_VISIBLE))


EVERYTHING_VISIBLE = 1e6
"""A depth tolerance that nothing exceeds."""

ABLATIONS: Mapping[str, Ablation] = {
    "full lift": Ablation(),
    "corrector off": Ablation(corrector_off),
    "propagation off": Ablation(propagation_off),
    "RGB guidance off": Ablation(colour_off),
    "visibility off": Ablation(visibility_off),
    "self view off": Ablation(config={"self_weight": 0.0}),
    "1 sample": Ablation(config={"samples": 1}, modes=("rgb",)),
    "2 samples": Ablation(config={"samples": 2}, modes=("rgb",)),
    "4 samples": Ablation(config={"samples": 4}, modes=("rgb",)),
    "8 samples": Ablation(config={"samples": 8}, modes=("rgb",)),
    "checkpoint off": Ablation(config={"weights": NO_WEIGHTS}),
}


def measure_ablations(bench: BenchScene, options: Options, cells: Cells, memory: Memory) -> None:
    """Every cell of part f for one scene."""
    for mode in options.geometries(bench):
        for name, ablation in ABLATIONS.items():
            if mode in ablation.modes:
                lift = LiftConfig(**{"method": mode, "sources": options.usual_sources, **ablation.config})
                case = LabelCase("f", mode, name, options.usual_noise, Variant(lift, ablation.change))
                measure_lift(bench, cells, case, memory)
