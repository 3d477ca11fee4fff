"""Every error of ours is a GenSoupError with an exit code, and its message is one line with a remedy."""

from __future__ import annotations

import inspect

import pytest

from gensoup.runtime import errors
from gensoup.runtime.errors import GenSoupError, Interrupted, MissingDependencyError, UsageError

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_all_are_gensoup_errors_with_the_promised_exit_code(kind: type[GenSoupError]) -> None:
    assert issubclass(kind, GenSoupError)
    promised = {UsageError: 64, Interrupted: 130}
    assert kind.exit_code == next((code for base, code in promised.items() if issubclass(kind, base)), 70)


def test_a_missing_dependency_says_what_to_install() -> None:
    assert str(MissingDependencyError("onnxruntime", "cpu")) == (
        "'onnxruntime' is not installed: pip install 'gensoup[cpu]'"
    )
