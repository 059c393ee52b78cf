import pytest
from omegaconf import OmegaConf

from kdpose.runtime.devices import pick_device
from kdpose.runtime.kinds import check_command


def test_a_path_that_is_a_number_is_text():
    cfg = OmegaConf.create({"skeleton": -1, "images": 2024, "source": 0, "category": 3})
    check_command(cfg)
    assert cfg == {"skeleton": "-1", "images": "2024", "source": "0", "category": 3}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("annotations", True, "annotations=true is refused: expected text"),
        ("out", [1], r"out=\[1\] is refused: expected text"),
        ("batch_size", 0, "batch_size=0 is refused: expected greater than or equal to 1"),
        ("batch_size", True, "batch_size=true is refused: expected a whole number"),
        ("boxes_overlap", {}, r"boxes_overlap=\{\} is refused: expected a number"),
        ("threshold", [1, 2], r"threshold=\[1, 2\] is refused: expected a number"),
        ("boxes", 5, "boxes=5 is refused: expected text or a list"),
        ("flip", 1, "flip=1 is refused: expected true or false"),
        ("quality", {}, r"quality=\{\} is refused: expected a whole number"),
        ("quality", 101, "quality=101 is refused: expected less than or equal to 100"),
        ("size", [1, 2, 3], r"size=\[1, 2, 3\] is refused: expected"),
        ("shard_mb", 0, "shard_mb=0 is refused: expected greater than 0"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(key, value, expected):
    with pytest.raises(ValueError, match=expected):
        check_command(OmegaConf.create({key: value}))


@pytest.mark.parametrize("name", ["abc", "", -1])
def test_devices_that_do_not_exist_are_refused(name):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        pick_device(name)
