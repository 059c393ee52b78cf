"""Signals: at once, or noted until it suits."""

import os
import signal
import subprocess
import sys

import pytest

from kdpose.runtime import signals


def test_a_signal_raises_at_once_or_is_noted():
    before = signal.getsignal(signal.SIGTERM)
    with signals.handled():
        with pytest.raises(signals.Stopped) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.value.code == 143
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.told() == signal.SIGINT
            with pytest.raises(signals.Stopped) as stopped:  # a second one does not wait
                os.kill(os.getpid(), signal.SIGINT)
            assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_outlives_a_signal_to_its_group():
    code = (
        "import os, signal, time; from kdpose.runtime import signals; signals._LAST_WORD = 1\n"
        "signals.keep_worker(); os.kill(os.getpid(), signal.SIGINT)\n"
        "os.kill(os.getpid(), signal.SIGTERM); print('alive', flush=True); time.sleep(20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, "alive\n")


def test_a_signal_is_passed_on_first_and_a_second_one_does_not_wait_for_that():
    seen = []

    def act(number):
        seen.append(number)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("waited")

    with signals.handled():
        signals.pass_on(act)
        with pytest.raises(signals.Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGTERM]


FOLLOWER = """
import os, signal
from kdpose.runtime import signals
signals.follow()
with signals.deferred():
    for _ in range(2):  # to the group, and passed on
        os.kill(os.getpid(), signal.SIGTERM)
    print(signals.told(), flush=True)
signals.follow()  # the next job
"""


def test_a_follower_takes_a_signal_once_and_begins_no_other_job():
    words = [sys.executable, "-c", FOLLOWER]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "15\n", "")


def test_a_signal_within_an_import_waits_for_its_end(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(0.3)\n"
        "print('imported', flush=True)\n"
    )
    code = (
        "import time; from kdpose.runtime import signals\n"
        "with signals.handled():\n"
        "    import slow; time.sleep(20)"
    )
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=where)
    assert (done.returncode, done.stdout) == (143, "imported\n"), done.stderr
