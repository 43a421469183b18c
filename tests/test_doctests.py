"""The examples in docstrings are run, and say what is true."""

import doctest
import importlib

import pytest

from tests.places import ROOT

PACKAGES = ("features", "plugins", "scripts")


def modules_with_examples() -> list[str]:
    """The modules of all packages that have `>>>` in them, by the names they are imported by."""
    found = []
    for package in PACKAGES:
        # Airflow has the folder of plugins on its path, and so do the tests.
        start = ROOT / package if package == "plugins" else ROOT
        for file in sorted((ROOT / package).rglob("*.py")):
            if ">>> " in file.read_text():
                found.append(".".join(file.relative_to(start).with_suffix("").parts).removesuffix(".__init__"))
    return found


MODULES = modules_with_examples()


def test_examples_are_found_in_the_package_and_in_the_plugin() -> None:
    assert {"features.drift.monitor", "features.retraining.policy", "feature_health.instants"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.FAIL_FAST)
    assert results.attempted > 0
    assert results.failed == 0


def test_an_example_that_is_not_true_would_be_seen() -> None:
    module = type(doctest)("untrue", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module, report=False).failed == 1
