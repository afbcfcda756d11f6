"""What is measured: parts, noise levels, source counts, geometries, and the lifts that these make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.benchmark.scenes import BenchScene
from schemas.errors import ConfigError

PARTS = {
    "a": "Noisy and clean labels",
    "b": "Real operators",
    "c": "Held-out views",
    "d": "Depth from RGB",
    "e": "Confidence",
    "f": "Ablations",
}
CLEAN = 0.0
"""The noise level of true labels."""
USUAL = 1.0
"""The noise level at which source counts and ablations are compared."""
LIFT, ANALYTIC = "lift", "analytic lift"
"""Names of the lift with its default weights and with none."""
WEIGHTS, NO_WEIGHTS = "default", "none"
"""`lift.weights` of the two."""


class Case(NamedTuple):
    """A lift of part a: row name, noise level, number of sources, `lift.weights`."""

    name: str
    level: float
    sources: int
    weights: str


@dataclass(frozen=True, slots=True)
class Options:
    """What `lift3d benchmark lift` was asked for.

    Attributes:
        parts: letters of `PARTS`.
        sources: source counts, ascending; the middle one is used wherever only one is.
        noise: noise levels besides clean labels.
        modes: geometries: depth, rgb.
        limit_views: measured views a scene, at most.
        few_views: measured views a scene where one cell is dear or there are many (parts b, c and f).
        weights: folder with the weights of the operators that are not installed as packages.
    """

    parts: tuple[str, ...] = tuple(PARTS)
    sources: tuple[int, ...] = (4, 8, 16)
    noise: tuple[float, ...] = (0.5, 1.0, 2.0)
    modes: tuple[str, ...] = ("depth", "rgb")
    limit_views: int = 24
    few_views: int = 8
    weights: str | None = None

    @property
    def usual_sources(self) -> int:
        """The middle source count."""
        return self.sources[len(self.sources) // 2]

    @property
    def usual_noise(self) -> float:
        """The noise level at which everything else is compared: 1 where it is measured."""
        return USUAL if USUAL in self.noise else self.noise[0]

    def geometries(self, bench: BenchScene) -> list[str]:
        """The geometries that were asked for and that the scene allows."""
        return [mode for mode in self.modes if mode in bench.modes]

    def cases(self) -> Iterator[Case]:
        """The lifts of part a: every source count at the usual noise, every noise at the usual source count.

        Cases that share geometry follow each other, the usual source count last: other parts go on from there.
        """
        usual = self.usual_sources
        for sources in (n for n in self.sources if n != usual):
            yield Case(LIFT, self.usual_noise, sources, WEIGHTS)
        yield Case(ANALYTIC, self.usual_noise, usual, NO_WEIGHTS)
        for level in (CLEAN, *self.noise):
            yield Case(LIFT, level, usual, WEIGHTS)


def parse_options(values: dict[str, Any]) -> Options:
    """Options from the command line's comma-separated texts. Raises `ConfigError` that names what cannot be used."""
    parsed: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    readers = {"parts": str, "modes": str, "sources": int, "noise": float}
    for name in readers.keys() & parsed.keys():
        parsed[name] = _listed(name, parsed[name], readers[name])
    options = Options(**parsed)
    _check("parts", options.parts, tuple(PARTS))
    _check("modes", options.modes, ("depth", "rgb"))
    if min(options.sources) < 1 or min(options.noise) <= 0:
        raise ConfigError("--sources and --noise take positive numbers", remedy="for example --sources 8 --noise 1")
    return options


def _listed(name: str, text: str, read: Any) -> tuple[Any, ...]:
    try:
        values = tuple(dict.fromkeys(read(part.strip()) for part in text.split(",") if part.strip()))
    except ValueError:
        values = ()
    if not values:
        raise ConfigError(f"--{name} {text!r} is no comma-separated list", remedy="for example --sources 4,8,16")
    return tuple(sorted(values)) if name in ("sources", "noise") else values


def _check(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    strange = [value for value in values if value not in known]
    if strange:
        raise ConfigError(f"--{name} has {', '.join(strange)}", remedy=f"choose from {','.join(known)}")
