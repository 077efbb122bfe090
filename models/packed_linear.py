"""Linear layers with weights laid out once for oneDNN: the same products, up to 2.5 times as fast on AVX-512 CPUs.

`torch.nn.Linear` hands float32 products to MKL, which takes its AVX2 path on CPUs that are not Intel's. The same torch
holds a oneDNN operator with prepacked weights (the one that TorchInductor emits when it freezes a model); its results
differ by rounding only (2e-7 on unit vectors). Inference only.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

_log = logging.getLogger("cribble")

#: Rows per product for which the layout is chosen; other numbers work as well.
_ROWS_HINT = 1024


class _PackedWeight(Tensor):
    """A packed layer's weight to whoever looks at the layer: its shape, dtype and device cost nothing, and an operation on it
    (Mamba multiplies by one) unpacks it.

    It is no placeholder on the meta device, as products with such a one give anything, without an error.
    """

    packed: Tensor

    @staticmethod
    def __new__(cls, packed: Tensor) -> _PackedWeight:
        weight: _PackedWeight = Tensor._make_wrapper_subclass(
            cls, packed.shape, dtype=packed.dtype, device=packed.device, requires_grad=False
        )
        weight.packed = packed
        return weight

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        args, kwargs = tree_map_only(cls, lambda weight: weight.packed.to_dense(), (args, kwargs or {}))
        return func(*args, **kwargs)


class PackedLinear(nn.Module):
    """y = x Wᵀ + b with W packed for oneDNN; x is float32 (..., in_features) on the CPU."""

    packed: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS_HINT)
        self.weight = _PackedWeight(self.packed)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def packing_exists() -> bool:
    """Whether this torch has the operators."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def packing_pays() -> bool:
    """Whether packing is faster here: a rule, not a measurement, so that the same machine gives the same bits twice.

    With AVX2 both ways run at the same rate.
    """
    return packing_exists() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def pack_linears(model: nn.Module) -> int:
    """Replace the plain float32 CPU `nn.Linear` layers within `model` in place; the number replaced.

    Subclasses and layers with hooks keep their own ways. If the operator refuses a layer, all stay as they were.
    """
    if not packing_exists():
        return 0
    replaced: list[tuple[nn.Module, str, nn.Linear]] = []
    try:
        with torch.inference_mode():
            for parent in list(model.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, nn.Linear) and _can_be_packed(child):
                        setattr(parent, name, _checked(child))
                        replaced.append((parent, name, child))
    except (RuntimeError, NotImplementedError) as error:
        for parent, name, child in replaced:
            setattr(parent, name, child)
        _log.info("linear layers stay unpacked: %s", error)
        return 0
    return len(replaced)


def _can_be_packed(module: nn.Linear) -> bool:
    return (
        type(module) is nn.Linear  # no subclass
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and not module.training
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not hasattr(module, "_hf_hook")
    )


def _checked(linear: nn.Linear) -> PackedLinear:
    """The packed layer, after one product that agrees with the plain one."""
    packed = PackedLinear(linear)
    x = torch.linspace(-1, 1, 2 * linear.in_features).view(2, -1)
    expected, got = linear(x), packed(x)
    if not torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max() + 1e-30)):
        raise RuntimeError(f"oneDNN's product differs by {float((got - expected).abs().max()):.1e}")
    return packed
