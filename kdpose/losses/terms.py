"""Weighted loss terms and their sum (Eq. 4, 5, 7): a list of terms is a row of an ablation."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LossTerm:
    """A loss function and its place in the total.

    The function's arguments are looked up by name among the values a training step offers (its
    context). Arguments that a partial has bound stay as they are; one with a default is passed
    only where the context has it.

    Attributes:
        fn: pure function to a scalar, called with keywords only; or a module, whose parameters are
            trained along and dropped at the end.
        weight: alpha, beta, delta, ...
        decay: whether gamma(t) of Eq. 4 multiplies the term.
        rename: maps an argument of ``fn`` to another name in the context.

    Raises:
        ValueError: ``rename`` has a name that is not a free argument of ``fn``.
    """

    fn: Callable[..., Tensor]
    weight: float = 1.0
    decay: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.rename) - set(self._sources))
        if unknown:
            raise ValueError(
                f"rename must name free arguments of {self.name} {sorted(self._sources)}, "
                f"got {unknown}"
            )

    @property
    def name(self) -> str:
        """The function's own name, for messages."""
        fn = self.fn.func if isinstance(self.fn, partial) else self.fn
        if isinstance(fn, nn.Module):
            return type(fn).__name__
        return getattr(fn, "__name__", repr(fn))

    @cached_property
    def needs(self) -> frozenset[str]:
        """Names that the context must have."""
        parameters = self._parameters
        return frozenset(
            source
            for argument, source in self._sources.items()
            if argument in self.rename or parameters[argument].default is inspect.Parameter.empty
        )

    @cached_property
    def _sources(self) -> dict[str, str]:
        """The name in the context for each free argument of the function."""
        bound = self.fn.keywords if isinstance(self.fn, partial) else {}
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {
            argument: self.rename.get(argument, argument)
            for argument, parameter in self._parameters.items()
            if parameter.kind in named and argument not in bound
        }

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        """Of the function, or of a module's ``forward``."""
        fn = self.fn.forward if isinstance(self.fn, nn.Module) else self.fn
        return inspect.signature(fn).parameters

    def __call__(self, context: Mapping[str, Any]) -> Tensor:
        """The term's value, unweighted.

        Raises:
            ValueError: the context lacks a name that the function needs.
        """
        missing = sorted(self.needs - set(context))
        if missing:
            raise ValueError(
                f"loss {self.name} must be given {missing} by the training step, "
                f"got only {sorted(context)}"
            )
        return self.fn(**{a: context[name] for a, name in self._sources.items() if name in context})


def distill_decay(epoch: int, max_epochs: int) -> float:
    """gamma(t) = 1 - (t - 1) / T (Eq. 4), constant within an epoch.

    Args:
        epoch: counted from 0, hence t - 1.
        max_epochs: T.

    Raises:
        ValueError: the length of the training is unknown.
    """
    if max_epochs < 1:
        raise ValueError(f"max_epochs must be 1 or more for gamma(t) of Eq. 4, got {max_epochs}")
    return 1 - epoch / max_epochs


def weighted_terms(
    terms: Mapping[str, LossTerm], context: Mapping[str, Any], gamma: float
) -> dict[str, Tensor]:
    """Each term times its weight and, if it decays, gamma; with their graphs.

    Raises:
        ValueError: a term lacks an input.
    """
    return {
        name: term(context) * (term.weight * gamma if term.decay else term.weight)
        for name, term in terms.items()
    }


def gradient_norms(values: Mapping[str, Tensor], at: Tensor) -> dict[str, Tensor]:
    """The gradient norm of each term at a tensor that all of them depend on.

    At the feature that the head reads, the last tensor shared by L_KL, Eq. 2 and 3 (through the
    head) and Eq. 1 (directly), each term costs a backward pass through the head only.

    Args:
        values: scalars with their graphs, which are kept.
        at: the tensor; it needs a gradient.

    Returns:
        The L2 norm of each scalar's gradient; 0 if it does not depend on ``at``.
    """
    norms = {}
    for name, value in values.items():
        (gradient,) = torch.autograd.grad(value, at, retain_graph=True, materialize_grads=True)
        norms[name] = gradient.float().norm()
    return norms


def total(
    terms: Mapping[str, LossTerm], context: Mapping[str, Any], gamma: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the terms (Eq. 5; with ``decay`` nowhere, Eq. 7).

    Args:
        terms: by the name in the log.
        context: what the training step offers, by name.
        gamma: factor of the terms with ``decay``.

    Returns:
        The scalar to minimise, and each term's weighted value, detached.

    Raises:
        ValueError: there is no term, or a term lacks an input.
    """
    if not terms:
        raise ValueError("losses must be one term or more, got none")
    parts = weighted_terms(terms, context, gamma)
    values = list(parts.values())
    return sum(values[1:], values[0]), {name: part.detach() for name, part in parts.items()}
