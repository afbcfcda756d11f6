"""The loop: a run that was stopped and resumed ends exactly where an uninterrupted one ends."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from lift3d_model.checkpoint import CheckpointError, read_tensors
from lift3d_model.training.log import read_log
from lift3d_model.training.loop import BEST, FitSettings, fit, learning_rate
from lift3d_model.training.state import STATE

SETTINGS = FitSettings(steps=24, warmup=3, learning_rate=0.1, report=2, validate_every=6)


class Line:
    """Fit y = 2 x + 1 to noisy points; interrupts itself at one step."""

    name = "line"

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(7)
        self.module = nn.Linear(1, 1)
        self._calls, self._stop_at = 0, stop_at

    def loss(self, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        self._calls += 1
        if self._calls == self._stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.rand(16, 1, generator=rng)
        noise = 0.1 * torch.randn(16, 1, generator=rng)
        loss = (self.module(x) - 2 * x - 1 - noise).square().mean()
        return loss, {"points": 16.0}

    def validate(self) -> dict[str, float]:
        x = torch.linspace(0, 1, 9)[:, None]
        return {"score": float((self.module(x) - 2 * x - 1).square().mean().detach())}

    def config(self) -> dict[str, object]:
        return {}


def _weights(task: Line) -> list[float]:
    return [value for parameter in task.module.parameters() for value in parameter.flatten().tolist()]


def test_an_interrupted_run_resumes_exactly(tmp_path: Path):
    whole = Line()
    fit(whole, tmp_path / "whole", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=11), tmp_path / "parts", SETTINGS)
    resumed = Line()
    progress = fit(resumed, tmp_path / "parts", SETTINGS)
    assert progress.step == SETTINGS.steps
    assert _weights(resumed) == _weights(whole)
    logs = [read_log(tmp_path / name / "line" / "log.csv") for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_learns_and_keeps_the_best(tmp_path: Path):
    task = Line()
    before = task.validate()["score"]
    progress = fit(task, tmp_path, FitSettings(steps=200, warmup=5, learning_rate=0.1, validate_every=20))
    assert progress.best["score"] < 0.02 * before
    best, _ = read_tensors((tmp_path / "line" / BEST).read_bytes())
    task.module.load_state_dict(best)
    assert task.validate()["score"] == pytest.approx(progress.best["score"])


def test_scores_by_prefix_keep_tensors_from_different_steps(tmp_path: Path):
    task = Line()
    before = _weights(task)

    def validate() -> dict[str, float]:
        weight, bias = _weights(task)
        return {"score:": abs(bias - 1), "score:wei": abs(weight - before[0])}  # the weight is best as it began

    task.validate = validate  # type: ignore[method-assign]
    progress = fit(task, tmp_path, FitSettings(steps=60, warmup=1, learning_rate=0.05, validate_every=20))
    best, _ = read_tensors((tmp_path / "line" / BEST).read_bytes())
    assert float(best["weight"]) == before[0]
    assert abs(float(best["bias"]) - 1) < abs(before[1] - 1)
    assert progress.best_step["score:wei"] == 0 < progress.best_step["score:"]
    assert [row[1] for row in read_log(tmp_path / "line" / "log.csv")].count("kept") == 2


def test_the_state_of_another_task_is_refused(tmp_path: Path):
    fit(Line(), tmp_path, SETTINGS)
    other = Line()
    other.module = nn.Linear(2, 1)
    with pytest.raises(CheckpointError, match=STATE):
        fit(other, tmp_path, SETTINGS)


def test_a_step_without_a_finite_loss_changes_nothing(tmp_path: Path):
    task = Line()
    task.loss = lambda rng: (task.module.weight.sum() * torch.nan, {})  # type: ignore[method-assign]
    before = _weights(task)
    fit(task, tmp_path, FitSettings(steps=3))
    assert _weights(task) == before


def test_the_rate_rises_then_falls():
    rates = [learning_rate(step, SETTINGS) for step in range(SETTINGS.steps)]
    assert rates[0] < rates[2] == pytest.approx(SETTINGS.learning_rate, rel=0.01)
    assert all(a >= b for a, b in zip(rates[3:], rates[4:], strict=False))
    assert rates[-1] < 0.03 * SETTINGS.learning_rate
