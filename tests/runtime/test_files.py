"""Where the files that a description names are, here and on another machine."""

from kdpose.runtime.files import located, shareable


def test_a_shared_description_finds_the_data_of_another_machine(tmp_path, monkeypatch):
    here, there, work = (tmp_path / name for name in ("here", "there", "work"))
    for folder in (here, there):
        (folder / "set").mkdir(parents=True)
        (folder / "set/a.json").touch()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("KDPOSE_DATA", str(here))
    own = {"name": "set", "annotations": str(here / "set/a.json"), "train": {"images": "/far/off"}}
    shared = shareable(own)
    assert shared == {"name": "set", "annotations": "set/a.json", "train": {"images": "off"}}
    monkeypatch.setenv("KDPOSE_DATA", str(there))
    assert located(shared)["annotations"] == str(there / "set/a.json")
    assert located(shared)["name"] == "set"
    monkeypatch.delenv("KDPOSE_DATA")
    assert located(shared) == shared  # nothing there: the error names the path as it was stored
    (work / "data").symlink_to(there)
    assert located(shared)["annotations"] == str(work / "data/set/a.json")
    monkeypatch.chdir(here)
    assert located(shared) == shared  # seen from here, it exists
