"""Semantic graph convolution: a graph convolution with learned weights of neighbours."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

with warnings.catch_warnings():  # of torch.jit, which torch-geometric still calls
    warnings.simplefilter("ignore", FutureWarning)
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import add_self_loops, coalesce, softmax, to_undirected


def skeleton_edges(limbs: Sequence[tuple[int, int]], num_joints: int) -> Tensor:
    """Directed edges of the limbs in both directions, and of every joint with itself.

    Args:
        limbs: joint index pairs, undirected; order and repetition do not matter.
        num_joints: K.

    Returns:
        ``(2, K + 2E)`` int64, source above target, sorted by target, then source.

    Raises:
        ValueError: a limb names a joint that does not exist.
    """
    for a, b in limbs:
        if not (0 <= a < num_joints and 0 <= b < num_joints):
            raise ValueError(f"limbs must join two of {num_joints} joints, got ({a}, {b})")
    pairs = torch.tensor(list(limbs), dtype=torch.long).reshape(-1, 2).t()
    edges, _ = add_self_loops(to_undirected(pairs, num_nodes=num_joints), num_nodes=num_joints)
    return coalesce(edges, num_nodes=num_joints, sort_by_row=False)


class SemGraphConv(MessagePassing):
    r"""Semantic graph convolution (Zhao et al., CVPR 2019), as OPEC-Net stacks it.

    With one learned score ``e`` per edge of A + I and the row-wise softmax
    :math:`\hat A = softmax(e)` over each joint's neighbours and itself,

    .. math:: Y = diag(\hat A) \circ X W_0 + (\hat A - diag \hat A) X W_1 + b.

    Both backends have the same state dict. ``pyg`` passes messages along the edges; ``dense``
    multiplies by the K x K matrix, so that an exported graph has no scatters.

    Args:
        in_channels: channels C of a joint.
        out_channels: channels C' of a joint.
        limbs: joint index pairs, undirected.
        num_joints: K.
        backend: ``pyg`` or ``dense``.

    Raises:
        ValueError: the backend is unknown, or a limb names a joint that does not exist.
    """

    edge_index: Tensor
    limb_edges: Tensor
    loops: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        limbs: Sequence[tuple[int, int]],
        num_joints: int,
        backend: str = "pyg",
    ) -> None:
        super().__init__(aggr="add", node_dim=-2)
        if backend not in ("pyg", "dense"):
            raise ValueError(f"backend must be 'pyg' or 'dense', got '{backend}'")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_joints, self.backend = num_joints, backend
        edges = skeleton_edges(limbs, num_joints)
        itself = edges[0] == edges[1]
        self.register_buffer("edge_index", edges, persistent=False)
        self.register_buffer("limb_edges", (~itself).nonzero()[:, 0], persistent=False)
        self.register_buffer("loops", itself.nonzero()[:, 0], persistent=False)
        self.weight = nn.Parameter(torch.empty(2, in_channels, out_channels))
        self.edge_score = nn.Parameter(torch.ones(self.edge_index.shape[1]))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # One draw over the 3-D tensor, as published: its fans make W smaller than one draw per
        # matrix, so that a residual block starts close to the identity.
        nn.init.xavier_uniform_(self.weight, gain=2**0.5)
        nn.init.uniform_(self.bias, -(out_channels**-0.5), out_channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, K, C)`` into ``(B, K, C')``."""
        own, other = x @ self.weight[0], x @ self.weight[1]
        if self.backend == "dense":
            return self._multiply(own, other) + self.bias
        attention = softmax(self.edge_score, self.edge_index[1], num_nodes=self.num_joints)
        # The joint itself needs no message; the self-loops are in the order of the joints.
        # Spelt out as self.propagate(...): PyG reads its signature from this source.
        summed = self.propagate(
            self.edge_index[:, self.limb_edges], other=other, attention=attention[self.limb_edges]
        )
        return attention[self.loops, None] * own + summed + self.bias

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        """Let PyG write its functions for this class, and remove the file that they came from."""
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            super()._set_jittable_templates(raise_on_error)
        finally:
            sys.dont_write_bytecode = before
        written = self.propagate.__module__
        if written.startswith(f"{self.__module__}_"):  # else PyG could not write it
            Path(str(sys.modules[written].__file__)).unlink(missing_ok=True)

    def message(self, other_j: Tensor, attention: Tensor) -> Tensor:
        """The message of each edge between two joints to its target, ``(B, 2E, C')``."""
        return attention[:, None] * other_j

    def _multiply(self, own: Tensor, other: Tensor) -> Tensor:
        source, target = self.edge_index
        scores = self.edge_score.new_full((self.num_joints, self.num_joints), -torch.inf)
        attention = scores.index_put((target, source), self.edge_score).softmax(dim=1)
        loop = attention.diagonal()
        return loop[:, None] * own + (attention - loop.diag()) @ other
