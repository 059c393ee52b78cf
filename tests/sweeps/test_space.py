import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kdpose.sweeps.space import as_overrides, distributions, values_now


def test_each_kind_by_hand():
    space = {
        "loss.fea.weight": {"log": [1e-5, 0.1]},
        "optimizer": {"lr": {"uniform": [0, 1]}},  # nested, as a command line makes it
        "data.batch_size": {"int": [8, 64]},
        "codec": {"choice": ["simcc", "simcc_gaussian"]},
    }
    assert distributions(space) == {
        "loss.fea.weight": FloatDistribution(1e-5, 0.1, log=True),
        "optimizer.lr": FloatDistribution(0, 1),
        "data.batch_size": IntDistribution(8, 64),
        "codec": CategoricalDistribution(["simcc", "simcc_gaussian"]),
    }


def test_a_given_key_is_not_searched():
    space = {"a": {"int": [1, 2]}, "b": {"int": [1, 2]}}
    assert list(distributions(space, fixed=["a", "c"])) == ["b"]
    with pytest.raises(ValueError, match="no key left to search"):
        distributions(space, fixed=["a", "b"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"log": [0, 1]}, r"a.b must be one of .*got {log: \[0, 1\]}"),
        ({"log": [2, 1]}, "a.b must be one of"),
        ({"int": 3}, "a.b must be one of"),
        ({"lgo": [1, 2]}, "a.b.lgo must be one of"),
        (0.5, "a.b must be one of .* got 0.5"),
    ],
)
def test_what_cannot_be_read_is_named(entry, message):
    with pytest.raises(ValueError, match=f"hparams_search.space: {message}"):
        distributions({"a.b": entry})


def test_overrides_are_read_by_hydra_as_they_were_chosen():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = {"a": 1.2345678901234567e-05, "b": None, "c": True, "d": "[x,y]", "e": 3}
    read = OverridesParser.create().parse_overrides(as_overrides(params))
    values = {override.key_or_group: override.value() for override in read}
    assert values == {**params, "d": ["x", "y"]}


def test_the_configurations_own_values_are_those_in_the_space():
    space = distributions(
        {
            "loss.fea.weight": {"log": [1e-5, 0.1]},
            "loss.pos.weight": {"log": [0.5, 1.0]},  # its own lies below
            "codec": {"choice": ["simcc"]},  # a group has no value of its own
            "module.limb_weights": {"choice": ["oks", "uniform"]},
        }
    )
    cfg = OmegaConf.create(
        {
            "loss": {"fea": {"weight": 5e-5}, "pos": {"weight": 0.1}},
            "codec": {"sigma": 2.0},
            "module": {"limb_weights": "uniform"},
        }
    )
    assert values_now(cfg, space) == {"loss.fea.weight": 5e-5, "module.limb_weights": "uniform"}


def test_a_key_that_the_experiment_lacks_is_named_before_any_trial():
    space = distributions(
        {"optimizer.lr": {"log": [1e-4, 1e-2]}, "loss.fea.weight": {"int": [1, 2]}}
    )
    cfg = OmegaConf.create({"optimizer": {"lr": None}, "loss": {"kl": {"weight": 1.0}}})
    with pytest.raises(ValueError, match=r"this experiment has no loss\.fea\.weight: use another"):
        values_now(cfg, space)
