"""Answers of off-policy estimates: a value with its interval, or why the log cannot give one."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TooLittleOverlap:
    """Why a log cannot say what a policy is worth: it hardly ever showed what the policy would show."""

    method: str
    effective_sample_size: float
    """Of rows or of users, whichever is smaller."""
    needed: float
    num_rows: int
    num_clusters: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.method}: too little overlap. {self.num_rows:,} rows of {self.num_clusters:,} users say as much "
            f"about the judged policy as {self.effective_sample_size:.1f} rows of its own, and at least "
            f"{self.needed:g} are needed. Log more decisions, or judge a policy that is nearer to the logged one."
        )


@dataclass(frozen=True, kw_only=True)
class PolicyValue:
    """Estimated mean reward of a decision, with its interval at `confidence`."""

    method: str
    value: float
    low: float
    high: float
    confidence: float
    effective_sample_size: float
    """(Σ w)² / Σ w² of the importance weights (Kish, Survey Sampling, 1965): unweighted rows with as much
    information."""
    num_rows: int
    num_clusters: int


@dataclass(frozen=True, kw_only=True)
class TooFewRewards:
    """Why a log cannot say what a policy is worth: no decision earned anything, and nobody said what one may earn."""

    method: str
    num_rows: int
    num_clusters: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.method}: too few rewards. None of {self.num_rows:,} rows of {self.num_clusters:,} users earned "
            "anything, so the log does not show how much a decision may earn. State that by `Judging.reward_range`, "
            "or log more decisions."
        )


Answer = PolicyValue | TooLittleOverlap | TooFewRewards
"""A value with its interval, or why there is none."""
