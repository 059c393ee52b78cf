"""The shared study alone: trials are numbers, processes are real and are really killed."""

import multiprocessing
import os
import signal
from functools import partial

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from kdpose.runtime.locks import locked
from kdpose.sweeps.study import SharedStudy

SPACE = {"x": FloatDistribution(0, 1)}


def study(folder, seed=0):
    sampler = partial(optuna.samplers.TPESampler, n_startup_trials=4)
    return SharedStudy(folder, "maximize", sampler, optuna.pruners.NopPruner(), seed)


def finish(shared, count):
    """Do what is left of ``count`` trials; the numbers of those that this call did."""
    done = []
    while True:
        with shared.next_trial(SPACE, count) as trial:
            if trial is None:
                return done
            shared.end(trial, TrialState.COMPLETE, trial.params["x"])
            done.append(trial.number)


def _die_in_a_trial(folder):
    shared = study(folder)
    with shared.next_trial(SPACE, 9) as trial:
        trial.report(0.5, step=0)
        os.kill(os.getpid(), signal.SIGKILL)


def _hold_a_trial(folder, begun, may_end):
    shared = study(folder)
    with shared.next_trial(SPACE, 9) as trial:
        begun.set()
        may_end.wait(60)
        shared.end(trial, TrialState.COMPLETE, 2.0)


def _work(folder, count):
    finish(study(folder), count)


def _ask(path, answer):
    try:
        with locked(path, wait=False):
            answer.put("free")
    except BlockingIOError:
        answer.put("held")


def process(target, *arguments):
    started = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    started.start()
    return started


def test_a_lock_keeps_others_out(tmp_path):
    answer, path = multiprocessing.get_context("spawn").Queue(), tmp_path / "folder" / "lock"
    with locked(path):  # makes the folder
        process(_ask, path, answer).join()
    process(_ask, path, answer).join()
    assert [answer.get(timeout=60), answer.get(timeout=60)] == ["held", "free"]


def test_samples_do_not_depend_on_restarts(tmp_path):
    finish(study(tmp_path / "whole"), 8)
    for count in (1, 3, 8):
        finish(study(tmp_path / "parts"), count)
    drawn = [
        [trial.params["x"] for trial in study(tmp_path / name).trials()]
        for name in ("whole", "parts")
    ]
    assert len(set(drawn[0])) == 8
    assert drawn[0] == drawn[1]


def test_a_killed_processs_trial_is_tried_again_in_its_folder(tmp_path):
    for _ in range(2):
        killed = process(_die_in_a_trial, tmp_path)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    shared = study(tmp_path)
    with shared.next_trial(SPACE, 9) as third:
        assert third.user_attrs == {"first": 0, "tries": 3}
        assert shared.trial_folder(third).name == "trial_000"
        shared.end(third, TrialState.COMPLETE, 1.0)
    states = [trial.state for trial in shared.study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert len({trial.params["x"] for trial in shared.study.trials}) == 1
    assert shared.study.trials[2].intermediate_values == {0: 0.5}
    assert [trial.number for trial in shared.trials()] == [2]  # one row, the latest try


def test_what_kills_every_process_is_given_up(tmp_path):
    for _ in range(3):
        process(_die_in_a_trial, tmp_path).join()
    shared = study(tmp_path)
    assert finish(shared, 2) == [3]
    assert [trial.state for trial in shared.trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_trial_under_way_elsewhere_is_let_alone(tmp_path):
    context = multiprocessing.get_context("spawn")
    begun, may_end = context.Event(), context.Event()
    other = process(_hold_a_trial, tmp_path, begun, may_end)
    assert begun.wait(60)
    shared = study(tmp_path)
    assert finish(shared, 3) == [1, 2]  # trial 0 counts as one of the three
    assert shared.study.trials[0].state == TrialState.RUNNING
    may_end.set()
    other.join()
    assert study(tmp_path).trials()[0].value == 2.0


def test_processes_share_the_trials_and_repeat_none(tmp_path):
    workers = [process(_work, tmp_path, 12) for _ in range(3)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    trials = study(tmp_path).trials()
    assert len(trials) == 12
    assert len({trial.params["x"] for trial in trials}) == 12
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_the_first_trial_has_the_given_values_once(tmp_path):
    for _ in range(2):
        study(tmp_path).begin_with({"x": 0.25})
    shared = study(tmp_path)
    finish(shared, 3)
    xs = [trial.params["x"] for trial in shared.trials()]
    assert xs[0] == 0.25
    assert 0.25 not in xs[1:]
