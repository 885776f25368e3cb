import pytest

from ebm_control.baselines import fit_ensemble, fit_feed_forward
from tests.baselines.helpers import rollouts


@pytest.fixture(scope="session")
def buffer():
    return rollouts()


@pytest.fixture(scope="session")
def feed_forward(buffer):
    return fit_feed_forward(buffer, hidden=(48, 48), updates=800)


@pytest.fixture(scope="session")
def ensemble(buffer):
    return fit_ensemble(buffer, hidden=(32, 32), updates=600)


@pytest.fixture(params=["feed_forward", "ensemble"])
def baseline(request):
    return request.getfixturevalue(request.param)
