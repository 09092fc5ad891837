"""Settings of what a sick version may do to others: circuit breakers, the canary's end, warm versions."""

from typing import Self

from pydantic import Field, model_validator

from recommender.settings.sections import Section


class IsolationSettings(Section):
    """How serving keeps a sick version, worker or Java process away from shoppers. All numbers are chosen by hand."""

    failures: int = Field(
        5,
        ge=1,
        le=1_000,
        description="Failures in a row after which requests wait for a version no more: its circuit breaker opens.",
    )
    failure_share: float = Field(
        0.5, gt=0, le=1, description="Share of failures within `window_s`, of 20 requests or more, that opens it too."
    )
    window_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Seconds over which the share counts, and for which a version must stay well to be healthy again.",
    )
    pause_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between probes of a version whose circuit breaker is open."
    )
    canary_sick_s: float | None = Field(
        20.0,
        gt=0,
        description="Seconds after which a canary that stays sick, while the champion is well, is ended in the "
        "registry. Below the 30 s after which TorchServe replaces a worker that hangs. None: never.",
    )
    keep_former: bool = Field(
        True,
        description="Whether the champion before the present one stays loaded, so that a rollback takes a few seconds. "
        "It takes the memory of one more version.",
    )
    warm_up_requests: int = Field(
        20,
        ge=0,
        le=10_000,
        description="Requests that every worker answers before it is READY, for users with made-up features of a "
        "real shape.",
    )
    wait_for_model_s: float = Field(
        0.0,
        ge=0,
        le=3_600,
        description="Seconds for which a new replica waits for its champion's first answer before it is ready with "
        "the popular list alone.",
    )

    @model_validator(mode="after")
    def _longer_than_a_recovery(self) -> Self:
        if self.canary_sick_s is not None and self.canary_sick_s <= self.window_s:
            raise ValueError(
                "`canary_sick_s` must be longer than `window_s`, for which a version that has recovered still counts "
                f"as sick (got {self.canary_sick_s:g} and {self.window_s:g})"
            )
        return self
