"""Fixtures of the unit tests."""

import pytest


@pytest.fixture
def quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flagship's gate takes a tenth of its steps, for tests whose subject is not how well it is fitted."""
    from recommender.models.next_item.fusion import gate_fit

    monkeypatch.setattr(gate_fit, "STEPS", gate_fit.STEPS // 10)
