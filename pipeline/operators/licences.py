"""Where an operator's weights come from and what their licence allows.

An operator may have a method `weights_info()` that returns pairs of source and licence, one for each set of weights
that it loads; one that is made of others has them in `members`. Whatever says nothing has an unknown licence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from pipeline.plain_yaml import plain_yaml
from pipeline.protocols import Operator
from schemas.errors import ConfigError, ContractError

log = logging.getLogger("lift3d")

UNKNOWN = "unknown"
OWN = "own"
"""Stated by someone whose weights they are, or who has the right to use them."""
PERMISSIVE = frozenset(
    (
        *(OWN, "apache-2.0", "mit", "mit-0", "isc", "zlib", "0bsd", "unlicense", "cc0-1.0", "wtfpl", "bsl-1.0"),
        *("bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "ncsa", "postgresql", "ms-pl", "ecl-2.0"),
        *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "pddl", "odc-by", "afl-3.0", "artistic-2.0"),
    )
)
"""Licences that allow commercial use; some ask for a notice."""
RESTRICTED = frozenset(
    (
        *("openrail", "openrail++", "openrail-m", "creativeml-openrail-m", "bigscience-openrail-m"),
        *("bigscience-bloom-rail-1.0", "bigcode-openrail-m"),
    )
)
"""Licences that allow commercial use and forbid some uses, whoever makes them."""
Verdict = Literal["yes", "restricted", "no", "unknown"]
LONGEST_CARD = 2**20


class Weights(NamedTuple):
    """One set of weights: where it comes from (never a path of this machine), and its licence's SPDX-like id."""

    source: str
    licence: str

    def to_json(self) -> dict[str, JsonValue]:
        """For metadata and documents."""
        return {"source": self.source, "license": self.licence}


def verdict(licence: str) -> Verdict:
    """Whether a licence allows commercial use; one that is in no table does not."""
    name = licence.strip().lower()
    if name in PERMISSIVE:
        return "yes"
    if name in RESTRICTED:
        return "restricted"
    return "unknown" if name in ("", UNKNOWN, "other") else "no"


def weights_of(operator: Operator, stated: str | None = None) -> tuple[Weights, ...]:
    """The weights of an operator and of those that it is made of, each once.

    Args:
        stated: the licence of those whose licence nothing else says.

    Raises ContractError where `weights_info` returns something else than pairs of texts.
    """
    own = getattr(operator, "weights_info", None)
    members: Sequence[Operator] = getattr(operator, "members", ())
    found = list(_pairs(own(), operator.name)) if callable(own) else []
    found += [weights for member in members for weights in weights_of(member)]
    if not found and not callable(own):
        found = [Weights(operator.name, UNKNOWN)]
    return tuple(dict.fromkeys(_stated(weights, stated) for weights in found))


def _stated(weights: Weights, licence: str | None) -> Weights:
    return Weights(weights.source, licence) if licence and verdict(weights.licence) == UNKNOWN else weights


def check_commercial(spec: str, weights: Iterable[Weights]) -> None:
    """Raise `ConfigError` where the licence of any of the weights does not allow commercial use, or is not known."""
    for source, licence in weights:
        answer = verdict(licence)
        if answer == "restricted":
            log.warning("%s: the licence %s of %s forbids some uses, read it", spec, licence, source)
        if answer == "no":
            raise ConfigError(
                f"operator {spec!r}: the licence of {source} is {licence!r:.80}, which is not known to allow "
                "commercial use",
                remedy="choose other weights, or leave --license commercial out",
            )
        if answer == "unknown":
            raise ConfigError(
                f"operator {spec!r}: the licence of {source} is unknown, expected one that allows commercial use",
                remedy="read the licence of the weights and state it: --set operator.weights_license=apache-2.0 "
                f"(or mit, ...; {OWN!r} for weights of your own)",
            )


def folder_weights(source: str, folder: Path) -> Weights:
    """Of a model's folder, by the `license` in its README.md's front matter."""
    return Weights(told_source(source), _card_licence(folder / "README.md"))


def cached_weights(source: str, repository: str) -> Weights:
    """Of a model that came from the hub, by its card where that is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(repository, "README.md") if repository.count("/") == 1 else None
    return Weights(source, _card_licence(Path(card)) if isinstance(card, str) else UNKNOWN)


def told_source(spec: str) -> str:
    """`name:argument` without the folders of a local path: labels must not tell where this machine keeps things."""
    name, colon, argument = spec.partition(":")
    path = Path(argument).expanduser()
    return f"{name}{colon}{path.name}" if path.is_absolute() or path.exists() else spec


def _card_licence(card: Path) -> str:
    try:
        if card.stat().st_size > LONGEST_CARD:
            return UNKNOWN
        begin, _, rest = card.read_text(encoding="utf-8").partition("---\n")
        values: Any = plain_yaml(rest.partition("\n---")[0]) if not begin.strip() else None
    except (OSError, ValueError, RecursionError):
        return UNKNOWN
    found = values.get("license") if isinstance(values, dict) else None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if found == "other":
        found = values.get("license_name")
    return found.strip().lower() if isinstance(found, str) and found.strip() else UNKNOWN


def _pairs(told: Any, name: str) -> Iterable[Weights]:
    if not isinstance(told, Sequence) or isinstance(told, str):
        told = [told]
    for pair in told:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise ContractError(
                f"operator {name!r}: weights_info() holds {pair!r:.80}, expected pairs (source, licence)",
                remedy='for example [("my weights, version 2", "apache-2.0")]',
            )
        yield Weights(*pair)
