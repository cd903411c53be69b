"""A model of the Hugging Face hub: its folder in the local cache, or its headers alone over the network, never its weights.

The only place that asks the hub for a model's headers; `model` loads weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, Unavailable
from engine.safetensors_header import read_object, tensor_of
from engine.summary import REMOTE, ModelSummary, TensorInfo, architecture

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FETCHED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
LEFT = ["*/*", "consolidated*"]  # of those: the same weights once more, in other layouts; `*` matches slashes too


def cached(name: str) -> Path | None:
    """The folder of a model in the local cache, None where it is not there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED, ignore_patterns=LEFT, local_files_only=True))
    except (OSError, ValueError):  # not there, there in part, no name at all: asking the hub says which
        return None


def inspect(name: str) -> ModelSummary:
    """The headers of a model's safetensors files and its configuration, as the hub has them. Raises Unavailable."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi()
    with _told(name):
        found = api.get_safetensors_metadata(name)
        config = _config(api, name)
    headers = sorted(found.files_metadata.items())
    tensors = [
        TensorInfo(stored.name, stored.shape, stored.dtype, stored.bytes, file)
        for file, header in headers
        for stored in (tensor_of(Path(name, file), key, vars(entry)) for key, entry in header.tensors.items())
    ]
    metadata = {key: value for _, header in headers for key, value in header.metadata.items()}
    return ModelSummary(f"{REMOTE}{name}", "safetensors", architecture(config), tuple(tensors), config, metadata, name)


def _config(api: HfApi, name: str) -> dict[str, Any]:
    """The model's configuration, empty where it has none."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return read_object(Path(api.hf_hub_download(name, "config.json")))
    except RemoteEntryNotFoundError:
        return {}


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What the hub's library raises, in our own words."""
    from huggingface_hub import errors

    fetch, unreached = f"hf download {name}", vars(errors)["HTTPError"]  # of httpx, later of httpx2
    try:
        yield
    except EngineError:
        raise
    except errors.OfflineModeIsEnabled as error:
        hint = f"unset HF_HUB_OFFLINE, or fetch it where it may be asked: {fetch}"
        raise Unavailable("not in the local cache, and HF_HUB_OFFLINE forbids asking", where=name, hint=hint) from error
    except errors.GatedRepoError as error:
        hint = f"accept its terms at huggingface.co/{name}, then hf auth login"
        raise Unavailable("its owner lets only known users see it", where=name, hint=hint) from error
    except (errors.RepositoryNotFoundError, errors.NotASafetensorsRepoError, ValueError) as error:
        hint = f"is the name right? a private one needs hf auth login, one of GGUF files {fetch} FILE.gguf"
        raise Unavailable("the hub shows no safetensors model of this name", where=name, hint=hint) from error
    except errors.SafetensorsParsingError as error:
        raise Unavailable("its headers on the hub make no sense", where=name, hint="tell its owner") from error
    except (OSError, unreached) as error:
        hint = f"is the network there? what is in the cache opens without it: {fetch}"
        raise Unavailable(f"the hub cannot be reached: {_first(error)}", where=name, hint=hint) from error


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
