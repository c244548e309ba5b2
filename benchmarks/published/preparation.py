"""The published reader of .skeleton files and its preprocessing, in our words."""

import numpy as np

# The columns of a line, by which the published reader makes its dictionaries.
BODY = tuple("id clipped left_sure left right_sure right restricted lean_x lean_y state".split())  # noqa: SIM905
JOINT = tuple("x y z depth_x depth_y colour_x colour_y w qx qy qz state".split())  # noqa: SIM905


def read(path, bodies=2, joints=25):
    """What the published reader computes, in our words: each line into a dictionary, the array from those."""
    with open(path) as file:
        frames = []
        for _ in range(int(file.readline())):
            frame = []
            for _ in range(int(file.readline())):
                body = dict(zip(BODY, map(float, file.readline().split()), strict=True))
                body["joints"] = [
                    dict(zip(JOINT, map(float, file.readline().split()), strict=True))
                    for _ in range(int(file.readline()))
                ]
                frame.append(body)
            frames.append(frame)
    clip = np.zeros((3, len(frames), joints, bodies))
    for t, frame in enumerate(frames):
        for m, body in enumerate(frame[:bodies]):
            for v, joint in enumerate(body["joints"][:joints]):
                clip[:, t, v, m] = joint["x"], joint["y"], joint["z"]
    return clip


def preprocess(clip, frames=50):
    """The same for preprocessing: centre, resize as an image, then frame by frame turn and append."""
    valid = int((np.abs(clip[:, :, 0, 0]).sum(axis=0) != 0).sum())
    clip = clip - clip[:, :, 20:21]
    position = ((np.arange(frames) + 0.5) * valid / frames - 0.5).clip(0, valid - 1)
    before = position.astype(int)
    after, weight = np.minimum(before + 1, valid - 1), (position - before)[:, None, None]
    resized = (clip[:, before] * (1 - weight) + clip[:, after] * weight).astype(np.float32)
    for m in range(clip.shape[3]):
        across = resized[:, :, 8, m] - resized[:, :, 4, m]
        angles = np.arccos(across[0] / (np.sqrt(across[0] ** 2 + across[2] ** 2) + 0.0001))
        if across[2].sum() >= 0:
            angles = -angles
        turns = np.zeros((0, 3, 3))
        for angle in angles:
            turn = np.eye(3)
            turn[0, 0] = turn[2, 2] = np.cos(angle)
            turn[0, 2], turn[2, 0] = -np.sin(angle), np.sin(angle)
            turns = np.concatenate((turns, turn[None]))
        turned = np.zeros((0, clip.shape[2], 3))
        for turn, pose in zip(turns, resized[..., m].transpose(1, 2, 0), strict=True):
            turned = np.concatenate((turned, (turn @ pose.T).T[None]))
        resized[..., m] = turned.transpose(2, 0, 1)
    return resized
