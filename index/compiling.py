"""The loops of this room are compiled as everywhere."""

from ..compiling import compiled as compiled
