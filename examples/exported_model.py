"""Run an exported model with onnxruntime and NumPy alone: raw joints in, actions out.

    ikem-fast export --model runs/student --out student.onnx
    python examples/exported_model.py student.onnx clip.npy

A clip is an array (3, F, V, M): x, y and z of V joints of M bodies in F frames, zero where a body is not
there; or (F, V, 3) and (F, V, 3, M), as `ikem-fast prepare arrays` reads them. Without a clip, one frame of
nobody moving stands in for it.
"""

import json
import sys

import numpy as np
import onnxruntime

model, *files = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
classes, joints, bodies = json.loads(facts["classes"]), json.loads(facts["joints"]), int(facts["bodies"])
print(f"{len(classes)} actions from {len(joints)} joints of layout {facts['layout']}, {bodies} bodies")


def read(file):
    """The array of a file as (3, F, V, M)."""
    clip = np.load(file, allow_pickle=False).astype(np.float32)
    clip = clip[..., None] if clip.ndim == 3 else clip
    return clip if clip.shape[2] == len(joints) else clip[:, :, :3].transpose(2, 0, 1, 3)


still = np.linspace(0.1, 1, 3 * len(joints), dtype=np.float32).reshape(3, 1, len(joints), 1)
clips = [read(file) for file in files] or [still]

# Clips of several lengths are one batch: shorter ones are filled up with zeros, as missing bodies are.
longest = max(clip.shape[1] for clip in clips)
batch = np.zeros((len(clips), 3, longest, len(joints), bodies), np.float32)
for row, clip in zip(batch, clips, strict=True):
    row[:, : clip.shape[1], :, : clip.shape[3]] = clip[..., :bodies]

probabilities, features, frames = session.run(None, {"joints": batch})
for name, row, count in zip(files or ["nobody moving"], probabilities, frames, strict=True):
    if count < 1:
        print(f"{name}: nobody is there, or a coordinate is no number")
    else:
        print(f"{name}: {classes[row.argmax()]}, {100 * row.max():.0f} % (of {count} frames)")
