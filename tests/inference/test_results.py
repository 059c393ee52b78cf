import json
import multiprocessing

import pytest

from kdpose.inference.results import ImageResults


def write(folder, *names, settings=None):
    results = ImageResults(folder, settings or {"a": 1})
    for name in names:
        results.add(name, [{"image_id": name}])
    return results


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_line_that_was_cut_short_is_done_again(tmp_path, cut):
    write(tmp_path, "one", "two").close()
    part = tmp_path / "predictions.part.jsonl"
    part.write_bytes(part.read_bytes()[: -cut or None])
    results = write(tmp_path)
    assert list(results.done) == (["one", "two"] if cut == 0 else ["one"])
    results.add("three", [])
    results.close()
    assert list(write(tmp_path).done) == [*results.done]


def test_other_settings_begin_again(tmp_path):
    write(tmp_path, "one").close()
    assert not write(tmp_path, settings={"a": 2}).done


def test_the_end_is_one_file(tmp_path):
    assert write(tmp_path, "one", "two").finish() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert written == [{"image_id": "one"}, {"image_id": "two"}]


def _second(folder, told):
    try:
        told.put(str(ImageResults(folder, {"a": 1}).done))
    except ValueError as error:
        told.put(str(error))


def test_a_folder_is_of_one_process(tmp_path):
    first = write(tmp_path, "one")
    spawn = multiprocessing.get_context("fork")
    told = spawn.Queue()
    process = spawn.Process(target=_second, args=(tmp_path, told))
    process.start()
    assert "another kdpose predict writes to" in told.get(timeout=60)
    process.join()
    assert first.finish() == 1
