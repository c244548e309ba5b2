"""A checkpoint of the published code, loaded and used: features of clips, and a teacher for distillation.

python examples/published_checkpoint.py [CHECKPOINT]

Without a checkpoint a stand-in is made, with the published names and random weights.
"""

import sys
import tempfile
from pathlib import Path

import torch

from ikem_fast.nn import IKEM, RelationalDistiller, load_published_state_dict

# How the published code tells modalities apart: behind encoder_q, encoder_k and queue, and behind mlp2.
NAMES = {
    "joint": ("", "j"),
    "motion": ("_motion", "m"),
    "bone": ("_bone", "b"),
    "acceleration": ("_acceleration", "a"),
    "rotation_axis": ("_rotation_axis", "r"),
    "angular_velocity": ("_omega", "o"),
}
# A published checkpoint has the defaults of IKEM instead: 128, 32768, 16, 256.
SIZES = {"feature_dim": 16, "queue_size": 64, "hidden_channels": 4, "hidden_dim": 32}


def stand_in():
    """What the published code would have saved of a model of these sizes."""
    model, state = IKEM(**SIZES), {}
    for row, name in enumerate(model.modalities):
        suffix, letter = NAMES[name]
        parts = {
            f"encoder_q{suffix}": model.query_encoders[name],
            f"encoder_k{suffix}": model.key_encoders[name],
            f"mlp2{letter}": model.exchange_heads[name],
        }
        for prefix, part in parts.items():
            state |= {f"{prefix}.{key}": value for key, value in part.state_dict().items()}
        state[f"queue{suffix}"] = model.bank.rows[row].T
    return state


def main(checkpoint=None):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if checkpoint is None:
            checkpoint = Path(folder) / "stand_in.pt"
            torch.save(stand_in(), checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        sizes = SIZES if Path(checkpoint).parent == Path(folder) else {}

    model = IKEM(**sizes)
    load_published_state_dict(model, state)
    model.eval()
    clips, frames = torch.randn(4, 3, 50, 25, 2), torch.full((4,), 80)
    with torch.no_grad():
        outputs, features = model.encode(model.query_encoders, clips, frames)
    print(f"outputs {tuple(outputs.shape)}, features {tuple(features.shape)}: modalities, clips, numbers")

    distiller = RelationalDistiller(**sizes)  # the same checkpoint as a teacher; students start anew
    load_published_state_dict(distiller, state)
    print(f"losses of the students: {distiller(clips, clips, frames).tolist()}")
    return features


if __name__ == "__main__":
    main(*sys.argv[1:])
