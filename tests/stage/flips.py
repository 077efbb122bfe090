"""What the contract knows of an option: another value, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RUN, COSTS, COST, RAISES = "run", "costs", "cost", "raises"


@dataclass(frozen=True)
class Flip:
    """An option's change: the other value, what it does, and options that must be set on both sides for it to matter.

    `RUN`: the run differs. `COSTS`: the run or the counted calls and tokens differ. `RAISES`: the stage is refused, here
    or at its first use, for the reason `why` (a regex). `COST`: the run stays, time or memory change; `why` says how.
    """

    value: Any
    effect: str = RUN
    why: str = ""
    given: dict[str, Any] = field(default_factory=dict)
