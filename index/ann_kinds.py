"""The approximate kinds, each a FAISS structure. Options and rules are in ann_rules.py, what they share in ann.py."""

from __future__ import annotations

from typing import ClassVar

from ..registry import register
from .ann import AnnIndex
from .ann_rules import Kind


@register("ivf-flat")
class IvfFlat(AnnIndex):
    """Whole vectors in `nlist` inverted lists, of which the `nprobe` nearest are scanned."""

    kind: ClassVar[Kind] = Kind("IVF{nlist},Flat", ("nlist",), ("nprobe", "verify"))


@register("hnsw")
class Hnsw(AnnIndex):
    """A graph of whole vectors (HNSW): fast; some 270 bytes a document more than the vectors."""

    kind: ClassVar[Kind] = Kind("HNSW{links},Flat", ("links", "ef_construction"), ("ef", "verify"))


@register("pq")
class Pq(AnnIndex):
    """Product quantisation: d/8 bytes a document, all scanned; lossy, so search with `verify`."""

    kind: ClassVar[Kind] = Kind("PQ{m}x{bits}np", ("m", "bits"))


@register("ivf-pq")
class IvfPq(AnnIndex):
    """Product-quantised residuals in inverted lists; lossy, so search with `verify`."""

    kind: ClassVar[Kind] = Kind("IVF{nlist},PQ{m}x{bits}np", ("nlist", "m", "bits"), ("nprobe", "verify"))


@register("opq-ivf-pq")
class OpqIvfPq(AnnIndex):
    """As ivf-pq after a learnt rotation (OPQ), which the codes fit better; takes much longer to train."""

    kind: ClassVar[Kind] = Kind("OPQ{m},IVF{nlist},PQ{m}x{bits}np", ("nlist", "m", "bits"), ("nprobe", "verify"))


@register("sq8")
class Sq8(AnnIndex):
    """8 bits a dimension, a quarter of the bytes of float32; all scanned."""

    kind: ClassVar[Kind] = Kind("SQ8")


@register("sq4")
class Sq4(AnnIndex):
    """4 bits a dimension, an eighth of the bytes of float32; all scanned."""

    kind: ClassVar[Kind] = Kind("SQ4")


@register("fp16")
class Fp16(AnnIndex):
    """Half precision, half the bytes of float32; all scanned."""

    kind: ClassVar[Kind] = Kind("SQfp16")


@register("bf16")
class Bf16(AnnIndex):
    """bfloat16, half the bytes of float32; all scanned."""

    kind: ClassVar[Kind] = Kind("SQbf16")


@register("factory")
class Factory(AnnIndex):
    """Any structure that FAISS's index factory makes of a string: `factory=IVF1024,SQ8`."""

    kind: ClassVar[Kind] = Kind("{factory}", ("factory",), ("nprobe", "ef", "verify"))
