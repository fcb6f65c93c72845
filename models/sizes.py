"""The named sizes: everything that makes one model differ from another."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """One architecture with its clip and its batch. Sizes are in frames and pixels, widths in numbers."""

    name: str
    frames: int
    height: int
    width: int
    batch: int  # clips in one run of the graphs that train
    patch: tuple[int, int, int]  # frames, rows and columns that make one token
    channels: int  # width of a token inside the model
    depth: int  # blocks; even ones attend in space, odd ones in time
    heads: int
    mlp_ratio: int
    time_features: int  # sines and cosines of t
    condition: int = 384  # length of a caption's embedding (MiniLM)
    lora_rank: int = 0  # 0: every parameter is trained
    lora_scale: float = 1.0
    # What is compared with JAX before the graphs are written, where the whole would take too long: this many clips in
    # a run, and this many blocks. None: as trained.
    compared_batch: int | None = None
    compared_depth: int | None = None

    @property
    def compared(self):
        """The size as it is compared."""
        return replace(self, batch=self.compared_batch or self.batch, depth=self.compared_depth or self.depth)

    @property
    def clip(self):
        """Shape of one clip: frames, rows, columns, colours."""
        return (self.frames, self.height, self.width, 3)

    @property
    def times(self):
        """Tokens along time."""
        return self.frames // self.patch[0]

    @property
    def places(self):
        """Tokens of one moment."""
        return (self.height // self.patch[1]) * (self.width // self.patch[2])

    @property
    def patch_values(self):
        """Numbers in one patch."""
        return math.prod(self.patch) * 3

    @property
    def head(self):
        """Width of one attention head."""
        return self.channels // self.heads


TINY = Size("tiny", 8, 32, 32, 16, (2, 4, 4), 40, 4, 2, 2, 32)
SMALL = Size("small", 16, 64, 64, 8, (2, 4, 4), 256, 12, 4, 4, 128, compared_batch=2)
BASE = Size("base", 16, 128, 128, 4, (2, 8, 8), 768, 14, 12, 4, 256, compared_batch=2, compared_depth=2)

SIZES = {
    size.name: size
    for size in (
        TINY,
        replace(TINY, name="tiny-lora", lora_rank=4),
        SMALL,
        replace(SMALL, name="small-lora", lora_rank=16),
        BASE,
    )
}
