import pytest

from tests.baselines.helpers import fitted, rollouts


@pytest.fixture(scope="session")
def buffer():
    return rollouts()


@pytest.fixture(scope="session")
def feed_forward(buffer):
    return fitted(buffer, "feed-forward", hidden=(48, 48), updates=800)


@pytest.fixture(scope="session")
def ensemble(buffer):
    return fitted(buffer, "ensemble", hidden=(32, 32), updates=600)


@pytest.fixture(params=["feed_forward", "ensemble"])
def baseline(request):
    return request.getfixturevalue(request.param)
