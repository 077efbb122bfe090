"""Where language models run: in this process (`hf`, `vllm`), behind a server (`openai`), or nowhere (`fake`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ...errors import UsageError
from ...registry import make
from ..calls import Call, Failure, Reply, Tokens

ROOM = "models/backends"


class Backend:
    """Base of all backends. A subclass is a dataclass whose fields are its options, registered in its own file.

    Making one is free; `open` loads. `calls` are the kinds of calls that it can answer.
    """

    registered_name: ClassVar[str] = ""
    calls: ClassVar[tuple[type, ...]] = ()
    #: Whether answers cost enough to be kept in the ledger.
    remembered: ClassVar[bool] = True

    def open(self) -> None:
        """Load the model, or look whether the server is there."""
        raise NotImplementedError

    @property
    def tokens(self) -> Tokens:
        """The tokenizer; loads no weights."""
        raise NotImplementedError

    def identity(self) -> dict[str, str]:
        """What an answer depends on beside the call: model, revision, dtype, quantisation. Part of the ledger's key."""
        raise NotImplementedError

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        """(position in `calls`, reply) for each call once, as they are finished, in whatever order: what was yielded is
        kept when the rest is killed. What concerns one call is a `Failure`; what concerns all is raised."""
        raise NotImplementedError

    def check(self, call: Call) -> None:
        """Refuse a kind of call that this backend can't answer."""
        if not isinstance(call, self.calls):
            kinds = ", ".join(kind.__name__ for kind in self.calls)
            raise UsageError(
                f"the backend {self.registered_name} has no {type(call).__name__}, which this judge needs (it has {kinds})"
            )


def make_backend(spec: str | Mapping[str, Any], model: str | None) -> Backend:
    """A backend from its name, or from `{use: NAME, option: value}`; `model` is handed on."""
    options = dict(spec) if isinstance(spec, Mapping) else {"use": spec}
    name = options.pop("use", "hf")
    backend: Backend = make(ROOM, str(name), {"model": model} | options)
    return backend
