"""The space of a search: keys of the configuration and their possible values."""

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

_ABSENT = object()
_KINDS = ("log", "uniform", "int", "choice")


def distributions(space: Mapping[str, Any], fixed: Iterable[str] = ()) -> dict[str, Any]:
    """Optuna's distributions of a search space.

    Args:
        space: for each key that can be overridden one of ``{log: [low, high]}``,
            ``{uniform: [low, high]}``, ``{int: [low, high]}``, ``{choice: [a, b, ...]}``; keys may
            be nested instead of dotted.
        fixed: keys set by the user, which are not searched.

    Returns:
        A distribution for each dotted key.

    Raises:
        ValueError: the space is empty, or an entry is not one of the four.
    """
    found = {key: value for key, value in _leaves(space) if key not in set(fixed)}
    if not found:
        raise ValueError("hparams_search.space has no key left to search")
    return {key: _distribution(key, kind, value) for key, (kind, value) in found.items()}


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, tuple[str, Any]]]:
    """Each dotted key with the kind and argument of its distribution."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in _KINDS:
            yield key, next(iter(value.items()))
        elif isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            raise ValueError(f"hparams_search.space: {key} must be {_expected()}, got {value}")


def _distribution(key: str, kind: str, value: Any) -> BaseDistribution:
    try:
        if kind == "choice":
            return CategoricalDistribution(value)
        low, high = value
        if kind == "int":
            return IntDistribution(low, high)
        return FloatDistribution(low, high, log=kind == "log")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"hparams_search.space: {key} must be {_expected()}, got {{{kind}: {value}}} ({error})"
        ) from None


def _expected() -> str:
    return f"one of {{{'|'.join(_KINDS[:3])}: [low, high]}} or {{choice: [a, b, ...]}}"


def as_overrides(params: Mapping[str, CategoricalChoiceType]) -> list[str]:
    """Chosen values as command-line overrides."""
    return [f"{key}={'null' if value is None else value}" for key, value in params.items()]


def values_now(cfg: DictConfig, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The configuration's values of the searched keys, if they are in the space.

    Raises:
        ValueError: a key is not in the configuration.
    """
    now = {key: OmegaConf.select(cfg, key, default=_ABSENT) for key in space}
    unknown = [key for key, value in now.items() if value is _ABSENT]
    if unknown:
        raise ValueError(
            f"hparams_search.space: this experiment has no {', '.join(unknown)}: use another "
            "+experiment=NAME, or a search of its keys (a file in conf/hparams_search)"
        )
    return {
        key: value
        for key, value in now.items()
        if isinstance(value, bool | int | float | str) and _holds(space[key], value)
    }


def _holds(distribution: BaseDistribution, value: CategoricalChoiceType) -> bool:
    """Whether a distribution contains a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high
