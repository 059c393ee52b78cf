"""Joint queries that a transformer's decoder answers, as TFPose and PRTR regress poses."""

from typing import Any

from torch import Tensor, nn

from kdpose.heads.attention import sine_positions
from kdpose.heads.regression import regressed
from kdpose.types import Coordinates


class QueryHead(nn.Module):
    """One learned query per joint reads the encoded feature map and regresses its joint.

    TFPose (Mao et al., 2021) and PRTR (Li et al., CVPR 2021) differ in what they read (several
    maps by deformable attention, the coarsest alone) and score by classes; here the map is the
    backbone's first and the score is that of :func:`regressed`. A stride-32 map has 48 cells at
    192x256; a stride-4 map has 3,072, which is slow.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: not needed.
        dim: of a token.
        encoder_layers: over the map's cells.
        decoder_layers: of the queries.
        heads: of each layer's attention.
        mlp: hidden width of a layer's perceptron.
    """

    positions: Tensor

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        dim: int = 256,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        heads: int = 8,
        mlp: int = 1024,
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, dim, 1)
        positions = sine_positions((feature_size[0], feature_size[1]), dim)
        self.register_buffer("positions", positions, persistent=False)
        self.queries = nn.Embedding(num_joints, dim)
        layer: dict[str, Any] = {"dropout": 0.0, "batch_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, heads, mlp, **layer),
            encoder_layers,
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(dim, heads, mlp, **layer), decoder_layers
        )
        self.fc = nn.Linear(dim, 4)

    def forward(self, feature: Tensor) -> Coordinates:
        """Regress the joints of a feature ``(B, C, h, w)``."""
        cells = self.project(feature).flatten(2).transpose(1, 2) + self.positions
        queries = self.queries.weight.repeat(feature.shape[0], 1, 1)
        return regressed(self.fc(self.decoder(queries, self.encoder(cells))))
