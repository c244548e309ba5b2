"""Views in training: augmentations reach the losses, keys may have their own, and runs keep theirs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.runtime.processes import Processes
from ikem_fast.train import ModelConfig, PretrainConfig, load_checkpoint, pretrain
from ikem_fast.train.budget import Progress
from ikem_fast.train.views import Views
from tests.helpers import ONE_BLOCK

TINY = Path(__file__).parents[1] / "version1" / "data"
STRONG = (
    {"name": "rotation"}, {"name": "joint_mask", "count": 2}, {"name": "noise", "probability": 0.5},
    {"name": "crop_resize"},
)  # fmt: skip

FIRST = Progress(steps=0, epoch=1, batch=0, share=0)


def settings(out, **changes):
    model = ModelConfig(
        feature_dim=2, queue_size=8, hidden_channels=2, encoder=ONE_BLOCK, modalities=("joint",)
    )
    return PretrainConfig(
        **{"data": TINY, "out": out, "batch_size": 2, "lr": 0.01, "device": "cpu", "model": model,
           "max_steps": 3, "exchange_from": None, **changes}
    )  # fmt: skip


def views(processes=None, **changes):
    alone = Processes(0, 1, torch.device("cpu"))
    return Views(settings(".", **changes), open_dataset(TINY), processes or alone)


def test_keys_may_be_augmented_otherwise():
    clips = torch.randn(2, 3, 4, 15, 1)
    query, key = views(augmentations=STRONG, key_augmentations=({"name": "shear"},))(clips, 2, FIRST)
    assert sorted(query.augmentation) == ["shear"] and not torch.equal(query.clips, clips)
    assert sorted(key.augmentation) == ["shear"] and key.clips is clips
    query, key = views(augmentations=STRONG)(clips, 2, FIRST)
    assert not torch.equal(query.clips, key.clips)
    query, key = views(augmentations=())(clips, 2, FIRST)
    assert query.clips is key.clips is clips and query.augmentation == {}


def test_processes_share_what_is_drawn_for_the_batch():
    clips = torch.randn(4, 3, 4, 15, 1)
    whole = views(augmentations=STRONG)(clips, 4, FIRST)
    for rank in range(2):
        processes = Processes(rank, 2, torch.device("cpu"))
        share = processes.share(4).clips
        part = views(processes, augmentations=STRONG)(clips[share], 4, FIRST)
        for one, all_ in zip(part, whole, strict=True):
            torch.testing.assert_close(one.clips, all_.clips[share])
            torch.testing.assert_close(one.augmentation["shear"], all_.augmentation["shear"][share])


def test_a_run_with_many_augmentations_is_gone_on_with_to_the_same_bits(tmp_path):
    config = settings(tmp_path / "whole", augmentations=STRONG, key_augmentations=({"name": "crop"},))
    pretrain(config)
    parts = replace(config, out=tmp_path / "parts", resume=True)
    for steps in (1, 3):
        pretrain(replace(parts, max_steps=steps))
    states = [load_checkpoint(folder)["model"] for folder in (config.out, parts.out)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"augmentations was .*crop_resize.* and is .*shear"):
        pretrain(replace(parts, augmentations=({"name": "shear"},)))


def test_settings_of_version_1_are_read_in_present_words(tmp_path):
    config = settings(tmp_path / "run", augmentations=({"name": "shear", "amplitude": 0.25},))
    pretrain(config)
    state = load_checkpoint(config.out)
    del state["config"]["augmentations"], state["config"]["key_augmentations"]
    state["config"] |= {"shear_amplitude": 0.25, "temporal_crop": False}
    torch.save(state, config.out / "checkpoint.pt")
    pretrain(replace(config, resume=True, max_steps=4))
    assert load_checkpoint(config.out)["step"] == 4


def test_what_these_clips_cannot_have_is_refused_ahead_of_everything(tmp_path):
    with pytest.raises(
        InputError, match="augmentations, number 1: joint_mask: expected a count of at most 15"
    ):
        pretrain(settings(tmp_path / "run", augmentations=({"name": "joint_mask", "count": 16},)))
    assert not (tmp_path / "run").exists()
