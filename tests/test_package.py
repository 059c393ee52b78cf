"""What ``import kdpose`` offers, and what it costs."""

import subprocess
import sys

import pytest

import kdpose


def test_dir_shows_every_public_name_and_each_can_be_had():
    assert set(kdpose.__all__) <= set(dir(kdpose))
    for name in kdpose.__all__:
        value = getattr(kdpose, name)
        assert isinstance(value, str) if name == "__version__" else value.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdpose.nothing  # noqa: B018 raises


def test_importing_it_imports_no_other_package():
    seen = "import sys, kdpose; print([n for n in ('torch', 'numpy', 'hydra') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", seen], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
