"""What was lifted to one view: values, the evidence behind them, and how far both can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lift3d_model.evidence import Evidence
from lift3d_model.propagation import lead

VOTES_FOR, VOTES_AGAINST = 0.25, 1.5
"""Votes for and against every class before anybody is heard: little evidence is little confidence."""
ODDS, ODDS_SHARE, ODDS_VIEW, ODDS_LEAD = -1.13, 3.30, 2.53, 1.81
"""Log odds that a class is right: offset; their growth with the log odds of its share of the votes, as far as raw
predictions back it (a class that came from neighbours may have few votes and yet be right); with how far raw
predictions of other views agree all over this view (operators that contradict each other everywhere deserve less trust
anywhere); and with that times its lead over the second best. A logistic regression on training rooms, both geometries,
4 to 16 sources, much noise and none: `jobs/fit_confidence.py`."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """What was lifted to one target's grid of R = h w cells.

    Attributes:
        values: [C, h, w] class shares or features; 0 where there is no evidence.
        classes: [C] the class of each channel, where channels are the classes that occur; None for features.
        witnesses: the evidence behind it, the target's own prediction last where it took part.
        weight: [E, R] final weights of the witnesses.
        sources: S, how many source views were asked; witnesses of slot S are the target itself.
    """

    values: Tensor
    witnesses: Evidence
    weight: Tensor
    sources: int
    classes: Tensor | None = None

    @property
    def ids(self) -> Tensor:
        """[h, w] int16: the class of the largest share, the lowest of equals; -1 where nothing is known."""
        assert self.classes is not None
        best = self.values.max(0)
        return torch.where(best.values > 0, self.classes[best.indices], -1).to(torch.int16)

    @property
    def support(self) -> Tensor:
        """[R]: total final weight, 0 = no evidence."""
        return self.weight.sum(0)

    def agreement(self, similarity: Tensor) -> tuple[Tensor, float | None]:
        """How far the evidence agrees with a finished prediction.

        Args:
            similarity: [E, R] in [0, 1] of each witness's own prediction with the finished one.

        Returns:
            confidence [R] in [0, 1], which needs much agreeing evidence to come near 1, and is 0 without any: of
            classes, how likely the finished class is right; and the mean share of the other views' base weight that
            agrees, None where they have none.
        """
        consistency = self._consistency(similarity)
        if self.classes is None:
            return self._agreeing(similarity), consistency
        return self._class_confidence(similarity, consistency or 0.0), consistency

    def _consistency(self, similarity: Tensor) -> float | None:
        others = self.witnesses.slot < self.sources
        base = self.witnesses.weight[others]
        total = base.sum(0)
        seen = total > 0
        if not bool(seen.any()):
            return None
        share = (base * similarity[others]).sum(0)[seen] / total[seen]
        return float(share.mean(dtype=torch.float64))

    def _agreeing(self, similarity: Tensor) -> Tensor:
        """[R]: agreeing weight over total weight plus one."""
        return (self.weight * similarity).sum(0) / (self.support + 1.0)

    def clues(self, similarity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the best class, each [R]: how far raw predictions back it, its share of the votes, its lead."""
        support = self.support
        votes_for = self.values.flatten(1).amax(0) * support + VOTES_FOR
        raw = (self.weight * similarity).sum(0) / support.clamp_min(1e-9)
        share = votes_for / (support + VOTES_FOR + VOTES_AGAINST)
        return raw, share, lead(self.values.flatten(1))

    def _class_confidence(self, similarity: Tensor, consistency: float) -> Tensor:
        """[R]: how likely the best class is right: by its votes and its lead, and by how raw predictions agree."""
        raw, share, ahead = self.clues(similarity)
        odds = ODDS + ODDS_SHARE * raw * share.logit() + consistency * (ODDS_VIEW + ODDS_LEAD * ahead)
        return odds.sigmoid() * (self.support > 0)
