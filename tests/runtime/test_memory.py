"""Freed memory stays with the process: the kernel clears its pages once."""

import platform
import subprocess
import sys

import pytest

from kdpose.runtime.memory import keep_memory

TOUCHED = """
import resource, sys
import torch
from kdpose.runtime.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
for _ in range(10):
    torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(how, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    words = [sys.executable, "-c", TOUCHED, how]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries")
def test_pages_are_touched_once(monkeypatch):
    assert pages("keep", monkeypatch) < pages("as usual", monkeypatch) / 10


def test_a_users_own_settings_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_memory()
