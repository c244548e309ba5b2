"""To the Hugging Face hub and back, through huggingface_hub; the network is used here and nowhere else."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ikem_fast.errors import InputError
from ikem_fast.runtime.bundle import CARD, CONFIG, WEIGHTS

if TYPE_CHECKING:
    from ikem_fast.predict.bundle import Bundle

FILES = (CONFIG, WEIGHTS, CARD)


def push(
    bundle: "Bundle", repo_id: str, *, private: bool | None, token: str | None, message: str | None
) -> str:
    """Upload a bundle; see `Bundle.push_to_hub`."""
    api = _hub().HfApi(token=token)
    api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(folder)
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
