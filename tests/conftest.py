"""Fixtures and environment of all tests: no network, no user caches; set before the libraries that read it load."""

import os
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_home = tempfile.TemporaryDirectory(prefix="esg-transformers-tests-")  # removed when the interpreter ends
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    HF_HOME=_home.name,
    HF_HUB_CACHE=f"{_home.name}/hub",
    HF_DATASETS_CACHE=f"{_home.name}/datasets",
    HF_EVALUATE_CACHE=f"{_home.name}/evaluate",
    HF_MODULES_CACHE=f"{_home.name}/modules",
    MPLBACKEND="agg",
    # The tensors of tests are small: threads that wait for each other cost far more than they save on a busy machine.
    OMP_NUM_THREADS="1",
)


@pytest.fixture(scope="session")
def simulated():
    """`simulated(num_videos, seed)`: a data set as `train` takes it."""
    from simulated_videos import SimulatedVideos  # imported here, since it imports torch

    return SimulatedVideos


@pytest.fixture(scope="session")
def small_model():
    """`small_model(**fields)`: a new model for such data sets, and its processor; the same weights each time."""
    from simulated_videos import small_model

    return small_model


SLOW_ROOMS = ("conversion", "hub", "hub_configs")  # nearly all of their tests start processes or make models


def pytest_collection_modifyitems(items):
    """Mark the tests of whole folders as slow; elsewhere tests carry the mark themselves."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in SLOW_ROOMS:
            item.add_marker("slow")
