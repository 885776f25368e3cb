"""Rollouts, as in the tests of baselines."""

from tests.baselines.conftest import buffer

__all__ = ["buffer"]
