"""The horizon of a pair: from the moment of a decision to the moment up to which a participation counts.

Elapsed time is a share of the way from the pair's targeting to the end of the campaign's window. So campaigns of
different lengths can be compared.

Shapes: N pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
"""Microseconds since 1970, UTC."""
NEVER = np.iinfo(np.int64).max
"""Stands for the time of a participation that never happened, as in `datasets.periods`."""


@dataclass(frozen=True, eq=False)
class Horizon:
    """When each of N pairs began, when it is decided, and up to when a participation counts."""

    targeted_us_N: Times
    """When the user was targeted. The window's start where that is not known."""
    decided_us_N: Times
    ends_us_N: Times
    """End of the window, exclusive."""
    until_us_N: Times
    """Participations before this time count. The end of the window, or an evaluation's reading date before it."""

    @classmethod
    def whole(cls, targeted_us_N: Times, decided_us_N: Times, ends_us_N: Times) -> "Horizon":
        """The horizon of decisions up to the end of the windows."""
        return cls(targeted_us_N, decided_us_N, ends_us_N, ends_us_N)

    def read_at(self, reading_us: int) -> "Horizon":
        """The same decisions, where only participations before `reading_us` count."""
        until_us_N = np.minimum(self.ends_us_N, reading_us)
        return Horizon(self.targeted_us_N, self.decided_us_N, self.ends_us_N, until_us_N)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | list[int]) -> "Horizon":
        """Select pairs."""
        targeted_us_N, decided_us_N, ends_us_N = (
            times_N[rows] for times_N in (self.targeted_us_N, self.decided_us_N, self.ends_us_N)
        )
        until_us_N = ends_us_N if self.until_us_N is self.ends_us_N else self.until_us_N[rows]
        return Horizon(targeted_us_N, decided_us_N, ends_us_N, until_us_N)

    def elapsed_N(self) -> NDArray[np.float64]:
        """Share of the window that lies behind at the decision, 0 to 1."""
        return elapsed_share(self.targeted_us_N, self.ends_us_N, self.decided_us_N)

    def reached_N(self) -> NDArray[np.float64]:
        """Share of the window that lies behind when participations stop to count, 0 to 1, and never below `elapsed_N`.

        It is 1 where the whole window counts.
        """
        if self.until_us_N is self.ends_us_N:
            return np.ones(len(self.ends_us_N))
        reached_N = elapsed_share(self.targeted_us_N, self.ends_us_N, self.until_us_N)
        return np.maximum(reached_N, self.elapsed_N())


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What was known at a boundary about the participations of N pairs, and when they happened."""

    targeted_us_N: Times
    ends_us_N: Times
    redeemed_us_N: Times
    """First participation before the boundary, `NEVER` without one."""
    known_at_us: int
    """The boundary, or the end of the log if that is earlier."""

    @classmethod
    def known_before(
        cls, boundary_us: int, *, log_end_us: int, targeted_us_N: Times, ends_us_N: Times, redeemed_us_N: Times
    ) -> "Outcomes":
        """Hide what a boundary could not know: participations from then on, or after the end of the log."""
        known_at_us = min(boundary_us, log_end_us + 1)
        known_N = np.where(redeemed_us_N < known_at_us, redeemed_us_N, NEVER)
        return cls(targeted_us_N, ends_us_N, known_N, known_at_us)

    def take(self, rows: NDArray[np.bool_]) -> "Outcomes":
        """Select pairs."""
        return Outcomes(
            self.targeted_us_N[rows], self.ends_us_N[rows], self.redeemed_us_N[rows], known_at_us=self.known_at_us
        )

    @property
    def redeemed_N(self) -> NDArray[np.bool_]:
        """Whether a participation was known."""
        return np.asarray(self.redeemed_us_N < self.known_at_us)

    @property
    def open_N(self) -> NDArray[np.bool_]:
        """Whether the outcome is censored: no participation was known, and the window had not ended."""
        return ~self.redeemed_N & (self.ends_us_N > self.known_at_us)

    def observed_N(self) -> NDArray[np.float64]:
        """Share of the window that was observed, 1 for a closed one."""
        return elapsed_share(self.targeted_us_N, self.ends_us_N, np.full(len(self.ends_us_N), self.known_at_us))

    def redeemed_share_N(self) -> NDArray[np.float64]:
        """Share of the window that lay behind at the participation. 1 where there was none."""
        return elapsed_share(self.targeted_us_N, self.ends_us_N, self.redeemed_us_N)


def elapsed_share(begins_us_N: Times, ends_us_N: Times, moments_us_N: Times) -> NDArray[np.float64]:
    """Share of the way from the begin to the end that lies behind at a moment, 0 to 1.

    A window without any length lies behind from its end on.
    """
    # `minimum` and `maximum`, here and in other functions of a request: `clip` takes three times as long for few pairs.
    length_us_N = ends_us_N - begins_us_N
    first_us_N = np.minimum(begins_us_N, ends_us_N)
    done_us_N = np.minimum(np.maximum(moments_us_N, first_us_N), ends_us_N) - begins_us_N
    share_N = np.minimum(np.maximum(done_us_N / np.maximum(length_us_N, 1), 0.0), 1.0)
    return np.where(length_us_N > 0, share_N, (moments_us_N >= ends_us_N).astype(np.float64))
