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
