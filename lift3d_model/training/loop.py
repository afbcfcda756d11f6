"""The training loop: AdamW, warm-up and cosine, clipped gradients, checkpoints in time and on interruption."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType

import torch
from torch import Generator
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from lift3d_model.checkpoint import read_tensors, write_tensors
from lift3d_model.training.log import Log
from lift3d_model.training.state import STATE, Progress, load_state, save_state, write_whole
from lift3d_model.training.task import Task

BEST = "best.safetensors"
SCORE = "score"
"""The validation figure that decides which weights are kept: lower is better. Several, `score:<prefix>`, decide each
for the tensors whose names begin so (the longest prefix counts); before the first step counts as well."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a task is trained.

    Attributes:
        steps: optimizer steps in all; warmup: of these, with a rising rate.
        learning_rate: at the top; it falls to a hundredth of that along a cosine.
        clip: largest norm of the gradient.
        report, validate_every: steps between rows of the log, and between validations.
        save_s: seconds between checkpoints.
    """

    steps: int = 2000
    warmup: int = 50
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    clip: float = 1.0
    report: int = 20
    validate_every: int = 250
    save_s: float = 60.0
    seed: int = 0


def fit(task: Task, out: Path, settings: FitSettings) -> Progress:
    """Train a task in OUT/<name>, going on where an earlier run stopped.

    Leaves there the log, the state and the weights of the best validations. The first interrupt (SIGINT) saves and
    raises `KeyboardInterrupt`.
    """
    folder = out / task.name
    rng = Generator().manual_seed(settings.seed)
    optimizer = AdamW(task.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    progress = load_state(folder / STATE, task.module, optimizer, rng)
    log = Log(folder / "log.csv", progress.step)
    if progress.step == 0:
        _validate(task, folder, log, progress)
    saved, begun = monotonic(), progress.step
    with _interruptible() as interrupted:
        while progress.step < settings.steps and not interrupted:
            _step(task, optimizer, rng, progress, settings, log)
            if progress.step % settings.validate_every == 0 or progress.step == settings.steps:
                _validate(task, folder, log, progress)
            if monotonic() - saved > settings.save_s:
                save_state(folder / STATE, task.module, optimizer, rng, progress)
                saved = monotonic()
    save_state(folder / STATE, task.module, optimizer, rng, progress)
    if interrupted:
        raise KeyboardInterrupt
    if progress.step > begun:
        _validate_kept(task, folder, log, progress)
    return progress


def learning_rate(step: int, settings: FitSettings) -> float:
    """Rate of a step: a linear rise, then half a cosine down to a hundredth."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))


def _step(task: Task, optimizer: AdamW, rng: Generator, progress: Progress, settings: FitSettings, log: Log) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(progress.step, settings)
    loss, figures = task.loss(rng)
    optimizer.zero_grad()
    if bool(torch.isfinite(loss)) and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(task.module.parameters(), settings.clip)
        optimizer.step()
    progress.step += 1
    if progress.step % settings.report == 0:
        figures = {"loss": float(loss.detach()), **figures}
        log.add(progress.step, "train", figures)
        _say(task, f"step {progress.step} of {settings.steps}", figures)


def _validate(task: Task, folder: Path, log: Log, progress: Progress) -> None:
    """Score the weights; keep those that are the best so far."""
    figures = _figures(task)
    log.add(progress.step, "dev", figures)
    _say(task, f"validation at step {progress.step}", figures)
    scores = [name for name in figures if name == SCORE or name.startswith(f"{SCORE}:")]
    better = {name for name in scores if figures[name] < progress.best.get(name, math.inf)}
    progress.best |= {name: figures[name] for name in better}
    progress.best_step |= dict.fromkeys(better, progress.step)
    if better:
        path, current = folder / BEST, dict(task.module.state_dict())
        kept = read_tensors(path.read_bytes())[0] if path.exists() else current
        chosen = {name: (current if _score_of(name, scores) in better else kept)[name] for name in current}
        about = {"steps": json.dumps(progress.best_step), "config": json.dumps(task.config())}
        write_whole(path, write_tensors(chosen, about))


def _score_of(tensor: str, scores: Sequence[str]) -> str:
    """The score that decides about a tensor."""
    prefixes = {name: name.removeprefix(SCORE).removeprefix(":") for name in scores}
    return max((name for name in scores if tensor.startswith(prefixes[name])), key=lambda name: len(prefixes[name]))


def _validate_kept(task: Task, folder: Path, log: Log, progress: Progress) -> None:
    """Log the figures of the weights that were kept, as `kept`; the module ends with them."""
    task.module.load_state_dict(read_tensors((folder / BEST).read_bytes())[0])
    figures = _figures(task)
    log.add(progress.step, "kept", figures)
    _say(task, "what is kept", figures)


def _figures(task: Task) -> dict[str, float]:
    task.module.eval()
    with torch.no_grad():
        figures = task.validate()
    task.module.train()
    return figures


def _say(task: Task, what: str, figures: dict[str, float]) -> None:
    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    sys.stderr.write(f"{task.name}: {what}: {text}\n")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that is no longer empty once SIGINT arrived; a second one interrupts as usual."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: nobody interrupts there
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
