"""Fitted baselines, as in the tests of baselines."""

from tests.baselines.conftest import baseline, buffer, ensemble, feed_forward

__all__ = ["baseline", "buffer", "ensemble", "feed_forward"]
