"""Fitted baselines, as in the tests of baselines."""

from tests.baselines.conftest import buffer, ensemble

__all__ = ["buffer", "ensemble"]
