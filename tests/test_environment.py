"""The places that name dependencies agree: pyproject.toml, constraints.txt, environment.yml and Colab's image."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
#: conda-forge's name: PyPI's name
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def pins(path: Path) -> dict[str, str]:
    """name: version of each line name==version; any other line is an error."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pinned = {}
    for requirement in map(Requirement, filter(None, lines)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        name = canonicalize_name(requirement.name)
        assert name not in pinned, f"{name} is pinned twice in {path.name}"
        pinned[name] = specifier.version
    return pinned


def test_environment_has_python_the_runtime_requirements_and_jupyterlab():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, *requirements, pip_section = environment["dependencies"]
    name, _, version = python.partition("=")
    assert name == "python"
    assert version in SpecifierSet(PROJECT["requires-python"])
    parsed = [Requirement(line) for line in requirements]
    bounds = {CONDA_NAMES.get(item.name, item.name): item.specifier for item in parsed}
    assert {"pip", "jupyterlab"} <= bounds.keys()
    assert bounds == {item.name: item.specifier for item in RUNTIME} | {n: bounds[n] for n in ("pip", "jupyterlab")}
    assert pip_section == {"pip": ["--editable ."]}
    assert environment["channels"] == ["conda-forge"]


def test_every_requirement_has_a_lower_bound():
    for item in RUNTIME + EXTRAS:
        if item.name != PROJECT["name"]:
            assert any(specifier.operator == ">=" for specifier in item.specifier), item


@pytest.mark.parametrize("requirement", RUNTIME + EXTRAS, ids=str)
def test_constraints_satisfy(requirement):
    if requirement.name == PROJECT["name"]:
        assert requirement.extras <= set(PROJECT["optional-dependencies"])
        return
    version = pins(ROOT / "constraints.txt").get(canonicalize_name(requirement.name))
    assert version, f"constraints.txt does not pin {requirement.name}"
    assert version in requirement.specifier


@pytest.mark.parametrize("requirement", RUNTIME, ids=str)
def test_colab_has(requirement):
    colab = {"torch": "2.11.0"} | pins(ROOT / "tests" / "colab.txt")
    assert canonicalize_name(requirement.name) in colab, f"{requirement.name} is not in Colab's image"
    assert colab[canonicalize_name(requirement.name)] in requirement.specifier
