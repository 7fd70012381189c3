import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import esg_transformers

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def check_release(tmp_path):
    """`check_release(tag)`: the script of the release workflow, on a copy of what it reads."""
    for file in (".github/check_release.sh", "CHANGELOG.md", "esg_transformers/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)

    def check(tag):
        return subprocess.run(["bash", tmp_path / ".github/check_release.sh", tag], capture_output=True, text=True)

    return check


def test_a_tag_of_the_version_is_released(check_release):
    assert check_release(f"v{esg_transformers.__version__}").returncode == 0


def test_a_tag_that_differs_from_the_version_is_refused_by_both(check_release):
    refusal = check_release("v9.9.9")
    assert refusal.returncode == 1
    assert "v9.9.9" in refusal.stderr
    assert esg_transformers.__version__ in refusal.stderr


def test_a_version_that_the_changelog_does_not_describe_is_refused(check_release, tmp_path):
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(f"## {esg_transformers.__version__} ", "## 0.0.0 "))
    refusal = check_release(f"v{esg_transformers.__version__}")
    assert refusal.returncode == 1
    assert f"## {esg_transformers.__version__}" in refusal.stderr


def test_the_workflows_are_yaml_whose_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        targets = [command.split()[1] for command in commands if command.startswith("make ")]
        assert all(f"\n{target}:" in makefile for target in targets)


def test_every_dependency_has_its_lowest_version_in_the_constraints():
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = dict(
        line.split("==") for line in (ROOT / "constraints-lowest.txt").read_text().splitlines() if "==" in line
    )
    for requirement in declared:
        name, _, version = requirement.partition(">=")
        version = version.split(",")[0]
        exact = lowest[name] == version or lowest[name].startswith(f"{version}.")
        assert exact or name == "torch", requirement  # torch: the version with a CPU build
