import ast
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch

import kdpose
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.terms import LossTerm, distill_decay, gradient_norms, total


def product(left, right):
    return left * right


def scaled(left, scale=10.0):
    return left * scale


ONE = torch.tensor(1.0)


def test_takes_what_the_function_asks_for():
    term = LossTerm(product)
    assert term.needs == {"left", "right"}
    assert term({"left": ONE * 2, "right": ONE * 3, "unasked": None}).item() == 6


def test_value_is_not_weighted():
    assert LossTerm(product, weight=100.0)({"left": ONE, "right": ONE}).item() == 1


def test_bound_arguments_stay():
    term = LossTerm(partial(product, right=ONE * 5))
    assert term.needs == {"left"}
    assert term({"left": ONE * 2, "right": ONE * 3}).item() == 10
    assert LossTerm(partial(product, ONE * 7))({"right": ONE}).item() == 7
    nested = partial(partial(product, right=ONE * 5), left=ONE)
    assert LossTerm(nested)({}).item() == 5


def test_defaults_are_taken_from_the_context_where_it_has_them():
    term = LossTerm(scaled)
    assert term.needs == {"left"}
    assert term({"left": ONE}).item() == 10
    assert term({"left": ONE, "scale": 2.0}).item() == 2


def test_rename():
    term = LossTerm(product, rename={"right": "label"})
    assert term.needs == {"left", "label"}
    assert term({"left": ONE * 2, "right": ONE * 100, "label": ONE * 4}).item() == 8
    renamed_default = LossTerm(scaled, rename={"scale": "temperature"})
    assert renamed_default.needs == {"left", "temperature"}
    assert renamed_default({"left": ONE, "temperature": 3.0}).item() == 3


def test_real_terms():
    context = {
        "refined": [torch.zeros(1, 14, 2), torch.full((1, 14, 2), 48.0)],
        "teacher_pose": torch.zeros(1, 14, 2),
        "student_pose": torch.ones(1, 14, 2),
        "target_pose": torch.zeros(1, 14, 2),
        "label_pose": torch.full((1, 14, 2), 96.0),
        "joint_mask": torch.ones(1, 14),
        "input_size": (96, 96),
    }
    assert LossTerm(pose_l1)(context).item() == 28
    assert LossTerm(partial(refined_l1, block=1))(context).item() == 1
    to_labels = LossTerm(partial(refined_l1, block=0), rename={"target_pose": "label_pose"})
    assert to_labels.needs == {"refined", "label_pose", "joint_mask", "input_size"}
    assert to_labels(context).item() == 2


def test_survives_pickling():
    term = pickle.loads(pickle.dumps(LossTerm(partial(refined_l1, block=1), weight=0.3)))
    assert term.weight == 0.3
    assert term.needs == {"refined", "target_pose", "joint_mask", "input_size"}


def test_errors_name_the_function_and_what_there_is():
    with pytest.raises(ValueError, match=r"loss product must be given \['right'\].*\['left'\]"):
        LossTerm(product)({"left": ONE})
    with pytest.raises(ValueError, match=r"loss refined_l1 must be given .*'refined'"):
        LossTerm(partial(refined_l1, block=1))({})
    with pytest.raises(ValueError, match=r"arguments of product \['left', 'right'\], got \['up'\]"):
        LossTerm(product, rename={"up": "down"})
    with pytest.raises(ValueError, match=r"arguments of product \['left'\], got \['right'\]"):
        LossTerm(partial(product, right=ONE), rename={"right": "down"})


def test_decay_of_the_paper():
    assert distill_decay(0, 210) == 1  # t = 1
    assert distill_decay(104, 210) == pytest.approx(0.505, abs=5e-4)  # t = 105
    assert distill_decay(209, 210) == pytest.approx(1 / 210)  # t = 210
    assert [distill_decay(e, 4) for e in range(4)] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("max_epochs", [0, -1])
def test_decay_needs_an_end(max_epochs):
    with pytest.raises(ValueError, match=f"max_epochs must be 1 or more.*got {max_epochs}"):
        distill_decay(0, max_epochs)


def test_total_by_hand():
    terms = {
        "kl": LossTerm(product),
        "feature": LossTerm(scaled, weight=5e-5, decay=True),
        "pose": LossTerm(scaled, weight=0.1, decay=True),
        "other": LossTerm(scaled, weight=3.0),
    }
    left = torch.tensor(2.0, requires_grad=True)
    loss, parts = total(terms, {"left": left, "right": ONE * 4}, gamma=0.5)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"kl": 8.0, "feature": 0.5 * 5e-5 * 20, "pose": 0.5 * 0.1 * 20, "other": 60.0}
    )
    assert loss.item() == pytest.approx(8 + 5e-4 + 1 + 60)
    loss.backward()
    assert left.grad.item() == pytest.approx(4 + 2.5e-4 + 0.5 + 30)
    assert not any(part.requires_grad for part in parts.values())


def test_gradient_norms_by_hand():
    shared = torch.tensor([3.0, 4.0], requires_grad=True)
    other = torch.tensor(1.0, requires_grad=True)
    values = {
        "sum": 2 * shared.sum(),  # gradient (2, 2)
        "square": (shared**2).sum() * other,  # gradient (6, 8)
        "elsewhere": other * 5,
    }
    norms = gradient_norms(values, shared)
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(
        {"sum": 8**0.5, "square": 10.0, "elsewhere": 0.0}
    )
    assert shared.grad is None
    sum(values.values()).backward()  # the graph is still there
    assert shared.grad.tolist() == [8.0, 10.0]


def test_total_leaves_non_finite_terms_to_the_caller():
    terms = {"good": LossTerm(scaled), "bad": LossTerm(product)}
    loss, parts = total(terms, {"left": ONE, "right": ONE * float("nan")}, gamma=1.0)
    assert loss.isnan()
    assert [name for name, part in parts.items() if not part.isfinite()] == ["bad"]


def test_total_of_nothing():
    with pytest.raises(ValueError, match="losses must be one term or more, got none"):
        total({}, {}, gamma=1.0)


@pytest.mark.parametrize("package", ["codecs", "heads", "losses"])
def test_pure_packages_import_no_framework(package):
    paths = sorted((Path(kdpose.__file__).parent / package).glob("*.py"))
    assert len(paths) > 1
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"lightning", "hydra", "omegaconf"}, path
