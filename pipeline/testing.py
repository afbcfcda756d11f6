"""A pytest fixture for operators of your own: `pytest_plugins = ["pipeline.testing"]` in conftest.py brings it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

Check = Callable[..., None]


@pytest.fixture
def operator_contract() -> Check:
    """`operator_contract(spec, kwargs, ...)`, arguments of `check_spec`: fails with every breach that is found."""

    def check(
        spec: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        batches: Sequence[FrameBatch[Tensor]] | None = None,
        variation: Mapping[str, Any] | None = None,
        elsewhere: bool = True,
    ) -> None:
        from pipeline.operators.checker import check_spec

        findings = check_spec(spec, kwargs, batches=batches, variation=variation, elsewhere=elsewhere)
        breaches = [f"{one.check}: {one.text}" for one in findings if one.status == "breach"]
        assert not breaches, "\n".join(breaches)

    return check
