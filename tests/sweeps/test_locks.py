import multiprocessing

from kdpose.sweeps.locks import locked


def test_a_lock_keeps_others_out(tmp_path):
    def probe(answer):
        try:
            with locked(tmp_path / "lock", wait=False):
                answer.put("free")
        except BlockingIOError:
            answer.put("held")

    def process(target, argument):
        started = multiprocessing.get_context("fork").Process(target=target, args=(argument,))
        started.start()
        started.join()

    answer = multiprocessing.get_context("fork").Queue()
    with locked(tmp_path / "lock"):
        process(probe, answer)
    process(probe, answer)
    assert [answer.get(timeout=5), answer.get(timeout=5)] == ["held", "free"]
