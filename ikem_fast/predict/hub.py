"""To the Hugging Face hub and back, through huggingface_hub; the network is used here and nowhere else."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ikem_fast.errors import InputError
from ikem_fast.runtime.bundle import CARD, CONFIG, WEIGHTS

FILES = (CONFIG, WEIGHTS, CARD)


def push(
    save: Callable[[str], object],
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    message: str | None,
) -> str:
    """Upload the bundle that `save` writes to a folder; see `Bundle.push_to_hub`."""
    api = _hub().HfApi(token=token)
    api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="model",
            allow_patterns=list(FILES),
            commit_message=message or "Upload a bundle of ikem-fast",
        )
    return str(commit)


def pull(repo_id: str, *, revision: str | None, token: str | None) -> Path:
    """Download a bundle's files and nothing else; see `Bundle.from_pretrained`."""
    hub = _hub()
    return Path(hub.snapshot_download(repo_id, revision=revision, token=token, allow_patterns=list(FILES)))


def _hub():
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            "huggingface_hub: expected it installed, found none: pip install 'ikem-fast[hub]'"
        ) from None
    return huggingface_hub
