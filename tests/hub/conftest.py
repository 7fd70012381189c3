"""A local Hub, and Python processes that use it as the Hub."""

import json
import os
import subprocess
import sys

import pytest
from hub_server import HubServer

USERS = {"hf_token_of_user": "user", "hf_token_of_other": "other"}


@pytest.fixture(scope="session")
def start_hub(tmp_path_factory):
    """`with start_hub() as hub`: a `HubServer` that `user` and `other` have tokens for."""

    def start(**options):
        return HubServer(tmp_path_factory.mktemp("hub"), USERS, **options)

    return start


@pytest.fixture(scope="module")
def hub_of_module(start_hub):
    with start_hub() as hub:
        yield hub


@pytest.fixture
def hub(hub_of_module):
    """The Hub, without faults. A test that made a client ask it something unknown fails."""
    hub_of_module.faults.clear()
    hub_of_module.requests.clear()
    yield hub_of_module
    unknown, hub_of_module.unknown = hub_of_module.unknown, []
    assert not unknown, "\n".join(unknown)


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """`environment(hub)`: the variables of a process of `user`, who has an empty cache."""

    def variables(hub, token="hf_token_of_user"):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return inherited | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": token,
            "HF_HOME": str(tmp_path_factory.mktemp("hf_home")),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    return variables


@pytest.fixture(scope="session")
def python(environment):
    """`python(hub, code, *arguments)`: what a fresh process prints last, as JSON."""

    def run(hub, code, *arguments, token="hf_token_of_user"):
        words = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(words, env=environment(hub, token), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
