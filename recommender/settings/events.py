"""Settings of events that come in over HTTP: where they lie first, what is refused, how long ids are remembered."""

from pathlib import Path

from pydantic import Field

from recommender.settings.sections import Section


class EventSettings(Section):
    """How a gateway takes events. All numbers are chosen by hand."""

    folder: Path | None = Field(
        None,
        description="Folder on the replica's own disk for events that are not shipped yet. It must outlive the "
        "process. None: `events` in the folder `state` of `[serving]`.",
    )
    most_in_batch: int = Field(200, ge=1, le=1_000, description="Events that one request may hold.")
    future_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="How far an event's time may lie ahead of the gateway's clock. A later one is refused.",
    )
    wait_ms: int = Field(
        2_000, ge=1, le=60_000, description="Time for an event to be synced to disk and in the store. Later: 503."
    )
    segment_s: float = Field(
        5.0, ge=0.1, le=3_600, description="Age at which a file of events is closed and shipped to `home`."
    )
    remember_days: int = Field(
        7, ge=1, le=400, description="Days for which the id of an event is remembered, so that it counts once."
    )
    stream_length: int = Field(
        100_000,
        ge=0,
        description="Redis: events kept in the stream `<project>:events`, for other readers. 0: there is no stream.",
    )
    largest_factor: float = Field(
        100.0,
        ge=1,
        le=1e9,
        description="An amount, discount or quantity of more than so many times the largest one of the tables is "
        "refused: it is most likely in another unit.",
    )
