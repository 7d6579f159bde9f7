"""A vision transformer for small images, with access to its patch tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmallViT(nn.Module):
    """A vision transformer for small images (Dosovitskiy et al. 2020, arXiv:2010.11929).

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: a quarter of the features of a token, so that ``feature_size = 4 · width`` as in
            :class:`SmallResNet`, and is a multiple of the heads.
        patch_size: side of a patch.
        depth: number of blocks of attention and MLP.
        heads: of attention, in each block.

    Maps (n, in_channels, height, width) to the class token's features (n, ``feature_size``). Sides
    may be any multiple of ``patch_size``: position embeddings are sines and cosines, not learned.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 32,
        patch_size: int = 8,
        depth: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        self.feature_size = 4 * width
        self.patch_size = patch_size
        self.patches = nn.Conv2d(in_channels, self.feature_size, patch_size, patch_size)
        self.class_token = nn.Parameter(0.02 * torch.randn(self.feature_size))
        # trained only by methods that mask patches
        mask_token = 0.02 * torch.randn(self.feature_size)
        self.mask_token = nn.Parameter(mask_token, requires_grad=False)
        self.blocks = nn.Sequential(*(Block(self.feature_size, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(self.feature_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images)[:, 0]

    def tokens(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The class token followed by the patches, by rows: (n, 1 + patches, ``feature_size``).

        Args:
            images: (n, in_channels, height, width).
            mask: (n, patches) bool; True replaces the patch by the mask token.
        """
        patches = self.patches(images)  # (n, feature_size, rows, columns)
        _, size, rows, columns = patches.shape
        positions = sine_positions(size, rows, columns, device=images.device)
        patches = patches.flatten(2).mT
        if mask is not None:
            patches = torch.where(mask[:, :, None], self.mask_token.to(patches.dtype), patches)
        class_token = self.class_token.to(patches.dtype).expand(len(patches), 1, -1)
        return self.norm(self.blocks(torch.cat([class_token, patches + positions], 1)))


def vit_small() -> SmallViT:
    """ViT-S/16 for colour images, except that its position embeddings are sines and cosines."""
    return SmallViT(in_channels=3, width=96, patch_size=16, depth=12, heads=6)


class Block(nn.Module):
    """Self-attention and an MLP, each with a residual connection."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, tokens, size / heads) each
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def sine_positions(size: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Sines and cosines of each patch's row and column: (rows · columns, size)."""
    frequencies = 2.0 ** -torch.arange(size // 4, device=device).mul(24 / size)
    row, column = (
        torch.arange(count, device=device)[:, None] * frequencies for count in (rows, columns)
    )
    row, column = (torch.cat([angle.sin(), angle.cos()], 1) for angle in (row, column))
    shape = rows, columns, size // 2
    both = torch.cat([row[:, None].expand(shape), column.expand(shape)], 2)
    return both.flatten(0, 1)
