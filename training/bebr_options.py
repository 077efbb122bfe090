"""How a binariser is trained: options, and the code's shape that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError, suggest
from ..index.binary_codes import MAX_PLANES, check_shape
from .objectives import check_objective
from .pairs import NEIGHBOURS

if TYPE_CHECKING:
    from ..models.recurrent_binarisation import Shape

STARTS = ("rotation", "random")


@dataclass(frozen=True)
class BebrOptions:
    """How to train. `bits` a document, as `width` coordinates of `planes` bits each; what is not given follows by rule.

    `hidden` units in `blocks` layers make the maps nonlinear (0: linear). `start` is rotation or random (Xavier).
    `objective` is distil or contrastive, at `temperature`; `noise` is the largest length of what anchors are moved by.
    `epochs` at most, of batches of about `batch` documents, `per_seed` neighbours of an anchor each; Adam's `rate` falls as
    a cosine. The share `held_out` of the vectors measures: training stops after `patience` epochs without gain. At most
    `sample` vectors are used. Finished codes are refined by up to `refine` sweeps (models/code_refinement.py; 0: the
    recurrence's as they are).
    """

    bits: int | None = None
    width: int | None = None
    planes: int | None = None
    hidden: int = 0
    blocks: int = 1
    start: str = "rotation"
    objective: str = "distil"
    temperature: float | None = None
    noise: float = 1.0
    epochs: int = 10
    batch: int = 1024
    per_seed: int = 8
    rate: float = 5e-4
    held_out: float = 0.05
    patience: int = 5
    refine: int = 8
    sample: int = 100_000
    seed: int = 42

    def __post_init__(self) -> None:
        check_objective(self.objective)
        if self.start not in STARTS:
            raise UsageError(f"start {self.start!r} is unknown: {suggest(self.start, STARTS)}")
        if self.hidden and self.start == "rotation":
            raise UsageError(f"start=rotation sets linear maps, hidden={self.hidden} asks for others: add start=random")
        if self.blocks != 1 and not self.hidden:
            raise UsageError(f"blocks={self.blocks} has no effect on linear maps: add hidden=…, or leave it out")
        for name, least in (
            ("hidden", 0),
            ("epochs", 0),
            ("batch", 2),
            ("patience", 1),
            ("refine", 0),
            ("sample", 64),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {least}")
        for name in ("bits", "width", "planes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not 1 <= self.per_seed <= NEIGHBOURS:
            raise UsageError(f"per_seed is {self.per_seed}, expected 1 to {NEIGHBOURS}")
        if not 0 < self.held_out <= 0.5 or self.noise < 0 or self.rate <= 0:
            raise UsageError(
                f"held_out {self.held_out}, noise {self.noise}, rate {self.rate}: expected up to .5, at least 0, above 0"
            )
        if self.temperature is not None and self.temperature <= 0:
            raise UsageError(f"temperature is {self.temperature}, expected more than 0")

    def shape(self, dim: int) -> Shape:
        """The network's shape for vectors of `dim` dimensions. By rule bits / dim + 1 bits a coordinate, rounded up, since
        few coordinates with more bits each ranked best at equal bytes (docs/binary.md)."""
        from ..models.recurrent_binarisation import Shape

        given = [name for name in ("bits", "width", "planes") if getattr(self, name) is not None]
        if len(given) == 3:
            raise UsageError("bits, width and planes are given: leave one out, bits are width times planes")
        width, planes, bits = self.width, self.planes, self.bits
        if width is None:
            bits = bits if bits is not None else 2 * dim // 8 * 8
            planes = planes if planes is not None else _planes(bits, dim)
            width, rest = divmod(bits, planes)
            if rest or width % 8 or not width:
                raise UsageError(
                    f"bits is {bits}, expected {planes} planes times a multiple of 8, such as {8 * planes * max(1, width // 8)}"
                )
        elif planes is None:
            if bits is not None and bits % width:
                raise UsageError(f"bits is {bits}, expected a multiple of width {width}")
            planes = 2 if bits is None else bits // width
        check_shape(width, planes)
        return Shape(dim, width, planes - 1, self.hidden, self.blocks)


def _planes(bits: int, dim: int) -> int:
    """Bits a coordinate: those of the rule, or the next that divides."""
    wanted = min(MAX_PLANES, -(-bits // dim) + 1)
    fitting = [n for n in range(1, MAX_PLANES + 1) if bits % (8 * n) == 0]
    return min(fitting, key=lambda n: (abs(n - wanted), n)) if fitting else wanted
