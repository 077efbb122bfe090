"""Device and number format of a network: what may run where, and what a batch may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SetupError, UsageError, suggest

if TYPE_CHECKING:
    import torch

DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}

#: Padded tokens in one batch. On a CPU small batches stay in its caches: 512 is a tenth faster than 1,024 or 2,048,
#: 8,192 lose a fifth. A GPU wants enough rows to be busy.
TOKEN_BUDGETS = {"cpu": 512, "cuda": 32768}
#: The same for a CPU and a network that computes nothing on padding: on one thread all from 1,024 to 4,096 are alike and
#: 512 lose a tenth; two threads wait for one another less often the larger the batches are.
UNPADDED_TOKEN_BUDGET = 4096


def choose_device(device: str) -> str:
    """`auto` is CUDA where there is one, else the CPU; a CUDA device that is not there is refused."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(
            f"device {device!r} is unknown: {suggest(device, ['auto', 'cpu', 'cuda', 'cuda:0'])}"
        ) from error
    if kind not in TOKEN_BUDGETS:
        raise UsageError(f"device {device!r} is not supported: expected auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise SetupError(f"device {device!r}: torch {torch.__version__} sees no CUDA device; use device='cpu'")
    index = torch.device(device).index
    if kind == "cuda" and index is not None and index >= torch.cuda.device_count():
        raise SetupError(
            f"device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    return device


def check_dtype(dtype: str, device: str = "") -> str:
    """The dtype's full name; float16 on a CPU is refused, as CPUs compute it ten times slower than float32."""
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown: {suggest(dtype, DTYPES)}")
    name = DTYPES[dtype]
    if name == "float16" and device == "cpu":
        raise UsageError(
            "dtype float16 on the CPU: CPUs have no float16 arithmetic, it runs several times slower than float32 and "
            "overflows at 65504; use dtype='bfloat16' (faster) or 'float32' (exact)"
        )
    return name


def torch_dtype(name: str) -> torch.dtype:
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def check_token_budget(token_budget: int | None, device: str, *, unpadded: bool = False) -> int:
    """Padded tokens per batch; None is the default of the device and of a network that is `unpadded` or not."""
    if token_budget is None:
        return UNPADDED_TOKEN_BUDGET if unpadded else TOKEN_BUDGETS[device.partition(":")[0]]
    if token_budget < 1:
        raise UsageError(f"token_budget={token_budget}: expected at least 1 token per batch (or None for the default)")
    return token_budget
