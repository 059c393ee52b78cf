from kdpose.reports.student.facts import group_cells, headline, speed_cells


def test_headline_is_in_percent_and_compares():
    rows = {"teacher": {"AP": 0.706}, "baseline": {"AP": 0.667}, "stage2": {"AP": 0.687}}
    assert headline(rows, None) == {
        "student": "68.7",
        "shared": None,
        "teacher": {"ap": "70.6", "gain": "-1.9"},
        "baseline": {"ap": "66.7", "gain": "+2.0"},
    }


def test_a_teacher_of_another_skeleton_has_the_ap_of_shared_joints():
    rows = {"teacher": {"params": 1}, "stage2": {"AP": None}}
    said = headline(rows, {"AP": 0.5})
    assert said == {"student": "n/a", "shared": "50.0", "teacher": None, "baseline": None}


def test_layer_groups():
    report = {
        "float_groups": ["head"],
        "train_cost_by_group": {
            "head": {"ap": 1.234, "px": 0.5},
            "backbone.stem": {"ap": 0.0, "px": 0.0125},
        },
    }
    assert group_cells(report)[1:] == [
        ["head", "1.23", "0.500", "float32"],
        ["backbone.stem", "0.00", "0.013", "int8"],
    ]
    assert group_cells({"file": "a.onnx"}) == []


def test_speed():
    first = {"name": "teacher, PyTorch, batch 1", "ms": 20.0, "median": 50.0, "ratio": None}
    file = {"name": "a.onnx, batch 1", "ms": 2.5, "median": 400.0, "ratio": 8.0}
    file |= {"ratio_min": 7.5, "ratio_max": 8.25}
    assert speed_cells({"rows": [first, file]})[1:] == [
        ["teacher, PyTorch, batch 1", "20.00", "50", "1", ""],
        ["a.onnx, batch 1", "2.50", "400", "8.00", "7.50–8.25"],
    ]
    assert speed_cells(None) == []
