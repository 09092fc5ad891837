"""One condition of the gate."""

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One condition of the gate: what was measured, its limit, and whether it holds. `words` is the whole in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    measured: float | None
    limit: float | None
    words: str
