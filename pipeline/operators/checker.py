"""`lift3d operators check`: what the contract asks of an operator and no single result shows, tried out on images.

Each check builds on the ones before it and ends in one finding. An operator that raises has failed the check.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.faults import Faults
from pipeline.operators.check_images import drawn_batches
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.registry import build_operator
from pipeline.predicting import class_ids, class_indices
from schemas.errors import ContractError, Lift3DError
from schemas.scene import FrameBatch

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.protocols import Operator

Status = Literal["ok", "breach", "note", "skipped"]
ROUNDING = 1e-4
"""Difference, relative to the largest value, that is rounding and not another result."""
ELSEWHERE_S = 300.0
"""Longest wait for a process that builds the operator once more."""
PROGRAM = (
    "import json, sys; from pipeline.operators import build_operator;"
    "print(build_operator(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]).fingerprint())"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to: a breach of the contract, or a note on what is allowed and worth knowing."""

    check: str
    status: Status
    text: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """An operator that is checked.

    Attributes:
        spec, kwargs, device: what it was built from.
        batches: images of two sizes at least, three or more of each.
        variation: other kwargs, to be compared with; none where empty.
    """

    spec: str
    kwargs: Mapping[str, Any]
    device: str
    operator: Operator
    batches: Sequence[FrameBatch[Tensor]]
    variation: Mapping[str, Any] = field(default_factory=dict)

    def again(self, **changes: Any) -> Operator:
        """The operator built once more."""
        return build_operator(self.spec, {**self.kwargs, **changes}, self.device)


class SkippedError(Lift3DError):
    """The check does not apply here."""


def check_spec(
    spec: str,
    kwargs: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    batches: Sequence[FrameBatch[Tensor]] | None = None,
    variation: Mapping[str, Any] | None = None,
    elsewhere: bool = True,
) -> list[Finding]:
    """Findings of every check, in order.

    Args:
        batches: images to try it on; drawn ones where absent, which an operator that reads files has no use for.
        variation: kwargs that make it another operator: where results change, so must the fingerprint.
        elsewhere: whether it is also built in a process of its own, which takes seconds.

    Raises what `build_operator` raises: an operator that cannot be built cannot be checked.
    """
    import torch

    operator = build_operator(spec, kwargs, device)
    subject = Subject(spec, dict(kwargs or {}), device, operator, batches or drawn_batches(), dict(variation or {}))
    findings: list[Finding] = []
    with torch.inference_mode():
        for name, check in CHECKS.items():
            if check is _is_the_same_elsewhere and not elsewhere:
                continue
            usable = check not in (*RESULTS, _moves_to_a_gpu) or all(one.status != "breach" for one in findings[:2])
            findings.append(
                _find(name, check, subject) if usable else Finding(name, "skipped", "mend those above first")
            )
    return findings


def _find(name: str, check: Callable[[Subject], str], subject: Subject) -> Finding:
    """One check. Whatever the operator raises is a breach."""
    faults = Faults("check", subject.spec)
    note = ""
    with faults.guard("check", name):
        note = check(subject)
    error = faults.error(name)
    if error is None:
        return Finding(name, "note" if note else "ok", note)
    if isinstance(error, SkippedError):
        return Finding(name, "skipped", str(error))
    known = isinstance(error, Lift3DError)
    return Finding(name, "breach", str(error) if known else f"it raised {type(error).__name__}: {error}")


def _encodes(subject: Subject) -> str:
    for batch in subject.batches:
        check_encoded(subject.operator, subject.operator.encode(batch), batch)
    return ""


def _decodes(subject: Subject) -> str:
    for batch in subject.batches:
        size = _size(batch)
        decoded = subject.operator.decode(subject.operator.encode(batch).float(), size)
        check_decoded(subject.operator, decoded, size, len(batch.frames))
    return ""


def _says_the_same_at_once(subject: Subject) -> str:
    """`class_indices` is a shorter way to what `encode` and `decode` say, and no other operator."""
    for batch in subject.batches:
        said = class_indices(subject.operator, batch)
        if said is None:
            raise SkippedError("it has none", remedy="")
        scores = subject.operator.decode(subject.operator.encode(batch).float(), _size(batch))
        differ = sum(int((class_ids(one) != two).sum()) for one, two in zip(scores, said, strict=True))
        if differ:
            raise ContractError(
                f"class_indices differs from the best of decode's scores in {differ} of {said.numel()} pixels",
                remedy="return the index of the highest score, -1 where all scores are zero",
            )
    return ""


def _repeats(subject: Subject) -> str:
    """Chance: dropout that was left on, noise, a state that calls leave behind."""
    for batch in subject.batches:
        first, second = subject.operator.encode(batch), subject.operator.encode(batch)
        _same(first, second, "encode of the same images a second time", "switch dropout and the like off: .eval()")
        one, two = (subject.operator.decode(first.float(), _size(batch)) for _ in range(2))
        _same(one, two, "decode of the same features a second time", "switch dropout and the like off: .eval()")
    return ""


def _keeps_to_itself(subject: Subject) -> str:
    """Images and features belong to the caller: other operators and views look at them too."""
    for batch in subject.batches:
        images = batch.images.clone()
        features = subject.operator.encode(batch)
        if not bool((batch.images == images).all()):
            raise ContractError(
                "encode changed batch.images", remedy="work on a copy: no in-place arithmetic on images"
            )
        given = features.float().clone()
        kept = given.clone()
        subject.operator.decode(given, _size(batch))
        if not bool((given == kept).all()):
            raise ContractError("decode changed the features it was given", remedy="no in-place arithmetic on features")
    return ""


def _is_independent(subject: Subject) -> str:
    """Frame by frame, and in another order, as all at once: batch statistics, or frames told apart by position."""
    import torch

    notes = set()
    for batch in subject.batches:
        together = subject.operator.encode(batch)
        alone = torch.cat([subject.operator.encode(_picked(batch, [i])) for i in range(len(batch.frames))])
        remedy = "take no statistics over the batch (.eval()), and tell frames apart by batch.frames"
        notes.add(_alike(together, alone, "a frame encoded alone", remedy))
        order = list(reversed(range(len(batch.frames))))
        turned = subject.operator.encode(_picked(batch, order))[order]
        notes.add(_alike(together, turned, "the frames in another order", remedy))
        size = _size(batch)
        decoded = subject.operator.decode(together.float(), size)
        apart = torch.cat([subject.operator.decode(one[None].float(), size) for one in together])
        notes.add(_alike(decoded, apart, "a frame decoded alone", remedy))
    return max(notes)


def _has_a_fingerprint(subject: Subject) -> str:
    first = subject.operator.fingerprint()
    if not isinstance(first, str) or not first.strip():
        raise ContractError(
            f"fingerprint() is {first!r:.80}, expected a text", remedy="name weights (their digest) and settings"
        )
    if subject.operator.fingerprint() != first:
        raise ContractError(
            f"fingerprint() was {first!r:.80} and then {subject.operator.fingerprint()!r:.80}, expected the same",
            remedy="no times, counters or object ids in it",
        )
    return ""


def _is_what_it_was_built_from(subject: Subject) -> str:
    """Every worker builds its own: from the same SPEC and kwargs must come the same operator."""
    twin = subject.again()
    if twin.fingerprint() != subject.operator.fingerprint():
        raise ContractError(
            f"built once more it is {twin.fingerprint()!r:.80}, expected {subject.operator.fingerprint()!r:.80}",
            remedy="the fingerprint may depend on weights and settings only; never start from random weights",
        )
    for batch in subject.batches:
        message = "what it says when built once more, with an equal fingerprint,"
        _alike(
            subject.operator.encode(batch), twin.encode(batch), message, "load weights; never start from random ones"
        )
    return ""


def _is_the_same_elsewhere(subject: Subject) -> str:
    """In another process: hashes of texts and addresses of objects differ there."""
    import json

    command = [sys.executable, "-c", PROGRAM, subject.spec, json.dumps(dict(subject.kwargs)), subject.device]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=ELSEWHERE_S, check=False)
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise ContractError(
            f"a process of its own cannot build it: {last[0]}", remedy="its module and kwargs must suffice to build it"
        )
    found = ran.stdout.rstrip("\n").splitlines()[-1]
    if found != subject.operator.fingerprint():
        raise ContractError(
            f"its fingerprint is {found!r:.80} in another process, expected {subject.operator.fingerprint()!r:.80}",
            remedy="use hashlib, not hash() or id(), and nothing of this machine",
        )
    return ""


def _tells_variations_apart(subject: Subject) -> str:
    """Where another setting gives another result, labels made with the one must not pass for labels of the other."""
    if not subject.variation:
        raise SkippedError("give other kwargs to compare with", remedy="--vary NAME=VALUE, other weights for instance")
    other = subject.again(**subject.variation)
    if other.fingerprint() != subject.operator.fingerprint():
        return ""
    for batch in subject.batches:
        ours, theirs = subject.operator.encode(batch), other.encode(batch)
        if _decoded_differ(subject.operator, other, batch, ours, theirs):
            raise ContractError(
                f"with {dict(subject.variation)} results change and the fingerprint stays {other.fingerprint()!r:.80}",
                remedy="put every setting and the weights' digest into it",
            )
    return "the variation changes neither results nor fingerprint"


def _moves_to_a_gpu(subject: Subject) -> str:
    import torch

    if not torch.cuda.is_available():
        raise SkippedError("there is no GPU here", remedy="run it where there is one")
    other = "cpu" if subject.device.startswith("cuda") else "cuda"
    moved = build_operator(subject.spec, subject.kwargs, other)
    for batch in subject.batches:
        there = FrameBatch(batch.images.to(other), batch.scene, batch.frames, batch.cameras)
        features = moved.encode(there)
        check_encoded(moved, features, there)
        check_decoded(moved, moved.decode(features.float(), _size(batch)), _size(batch), len(batch.frames))
    return ""


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "encode: shape, type, finite": _encodes,
    "decode: shape, type, range": _decodes,
    "class_indices: as decode says": _says_the_same_at_once,
    "leaves its input alone": _keeps_to_itself,
    "the same twice": _repeats,
    "frames are independent": _is_independent,
    "fingerprint": _has_a_fingerprint,
    "built once more": _is_what_it_was_built_from,
    "built in another process": _is_the_same_elsewhere,
    "fingerprint tells settings apart": _tells_variations_apart,
    "moves between devices": _moves_to_a_gpu,
}
"""Name -> check: a note, or nothing; a breach is raised. The first two say whether results can be looked at at all."""
RESULTS = (
    _says_the_same_at_once,
    _repeats,
    _keeps_to_itself,
    _is_independent,
    _is_what_it_was_built_from,
    _tells_variations_apart,
)
"""Checks that compare results."""


def _size(batch: FrameBatch[Tensor]) -> tuple[int, int]:
    return batch.images.shape[-2], batch.images.shape[-1]


def _picked(batch: FrameBatch[Tensor], rows: list[int]) -> FrameBatch[Tensor]:
    frames, cameras = tuple(batch.frames[row] for row in rows), tuple(batch.cameras[row] for row in rows)
    return FrameBatch(batch.images[rows], batch.scene, frames, cameras)


def _same(one: Tensor, two: Tensor, what: str, remedy: str) -> None:
    if one.shape != two.shape or not bool((one == two).all()):
        raise ContractError(f"{what} differs {_by(one, two)}, expected the same bits", remedy=remedy)


def _alike(one: Tensor, two: Tensor, what: str, remedy: str) -> str:
    """A note where they differ by rounding. Raises where they differ by more."""
    if one.shape == two.shape and bool((one == two).all()):
        return ""
    scale = float(one.abs().max())
    if one.shape != two.shape or float((one - two).abs().max()) > ROUNDING * scale:
        raise ContractError(f"{what} differs {_by(one, two)}, expected the same", remedy=remedy)
    return "results differ by rounding with the size of the batch: labels then depend on operator.batch_size"


def _by(one: Tensor, two: Tensor) -> str:
    if one.shape != two.shape:
        return f"in shape: {list(two.shape)}, not {list(one.shape)}"
    return f"by up to {float((one - two).abs().max()):.3g} (values go up to {float(one.abs().max()):.3g})"


def _decoded_differ(
    operator: Operator, other: Operator, batch: FrameBatch[Tensor], ours: Tensor, theirs: Tensor
) -> bool:
    if ours.shape != theirs.shape or not bool((ours == theirs).all()):
        return True
    size = _size(batch)
    one, two = operator.decode(ours.float(), size), other.decode(theirs.float(), size)
    return one.shape != two.shape or not bool((one == two).all())
