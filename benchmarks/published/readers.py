"""Small files of each format, of the sizes that datasets have, and how code of that format reads them."""

import json
import pickle

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.published import preparation

CLIPS = 400  # of an array or a pickle
FILES = 20  # of a clip each
FRAMES = 80
LONG = 2000  # frames of a recording


def people(rng, joints=25, bodies=2, frames=FRAMES):
    return rng.normal(size=(3, frames, joints, bodies)).astype(np.float32)


def padded_arrays(folder, rng):
    """AGCN's: (N, 3, 300, 25, 2) and labels."""
    array = np.zeros((CLIPS, 3, 300, 25, 2), np.float32)
    array[:, :, :FRAMES] = people(rng)
    np.save(folder / "train_data_joint.npy", array)
    np.save(folder / "train_num_frame.npy", np.full(CLIPS, FRAMES))
    names = ([f"clip{i}" for i in range(CLIPS)], [0] * CLIPS)
    (folder / "train_label.pkl").write_bytes(pickle.dumps(names))
    return [folder]


def read_padded(folder):
    array = np.load(folder / "train_data_joint.npy")
    counts = np.load(folder / "train_num_frame.npy")
    return [np.array(clip[:, :count]) for clip, count in zip(array, counts, strict=True)]


def archive(folder, rng):
    """CTR-GCN's: (N, 300, 150), one-hot labels."""
    rows = np.zeros((CLIPS, 300, 150), np.float32)
    rows[:, :FRAMES] = people(rng).transpose(1, 3, 2, 0).reshape(FRAMES, 150)
    entries = {f"x_{split}": rows[: CLIPS // 2] for split in ("train", "test")}
    entries |= {f"y_{split}": np.eye(60)[np.zeros(CLIPS // 2, int)] for split in ("train", "test")}
    np.savez(folder / "CS.npz", **entries)
    return [folder / "CS.npz"]


def read_archive(path):
    """Frames are counted, as its feeder does it: nothing else says how many there are."""
    with np.load(path) as packed:
        return [
            np.array(row[: np.sum(row.sum(1) != 0)].reshape(-1, 2, 25, 3).transpose(3, 0, 2, 1))
            for split in ("train", "test")
            for row in packed[f"x_{split}"]
        ]


def annotations(folder, rng):
    """PYSKL's: a pickle of annotations, of float16 and protocol 2, as its tools write NTU RGB+D."""
    made = []
    for index in range(CLIPS):
        points = people(rng, bodies=1 + index % 2).transpose(3, 1, 2, 0).astype(np.float16)
        made.append({"frame_dir": f"clip{index}", "label": 0, "keypoint": points, "total_frames": FRAMES})
    names = [one["frame_dir"] for one in made]
    content = {"split": {"xsub_train": names, "xsub_val": []}, "annotations": made}
    (folder / "annotations.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return [folder / "annotations.pkl"]


def read_annotations(path):
    with path.open("rb") as file:
        content = pickle.load(file)
    return [one["keypoint"].astype(np.float32).transpose(3, 1, 2, 0) for one in content["annotations"]]


def packed(folder, rng):
    """The packed form."""
    x = np.concatenate([people(rng, 20, 1)[..., 0].transpose(1, 2, 0)] * CLIPS)
    np.savez(folder / "clips.npz", x=x, len=np.full(CLIPS, FRAMES), y=np.zeros(CLIPS, int))
    return [folder / "clips.npz"]


def read_packed(path):
    with np.load(path) as content:
        parts = np.split(content["x"], np.cumsum(content["len"])[:-1])
    return [np.array(part.transpose(2, 0, 1)) for part in parts]


def objects(folder, rng):
    """NW-UCLA's: JSON, a file a clip."""
    points = people(rng, 20, 1)[..., 0].transpose(1, 2, 0)
    paths = [folder / f"a01_s01_e{index:02d}_v01.json" for index in range(FILES)]
    for path in paths:
        path.write_text(json.dumps({"skeletons": points.round(4).tolist()}))
    return paths


def read_objects(path):
    return [np.array(json.loads(path.read_text())["skeletons"]).transpose(2, 0, 1)]


def matlab(folder, rng):
    """UTD-MHAD's: MATLAB, a file a clip."""
    from scipy.io import savemat

    paths = [folder / f"a1_s1_t{index + 1}_skeleton.mat" for index in range(FILES)]
    for path in paths:
        savemat(path, {"d_skel": people(rng, 20, 1)[..., 0].transpose(2, 0, 1).astype(np.float64)})
    return paths


def read_matlab(path):
    from scipy.io import loadmat

    return [loadmat(path)["d_skel"].transpose(1, 2, 0)]


def texts(folder, rng):
    """MSR-Action3D's: a line a joint, a file a clip."""
    points = people(rng, 20, 1)[..., 0].transpose(1, 2, 0).reshape(-1, 3)
    paths = [folder / f"a01_s01_e{index:02d}_skeleton3D.txt" for index in range(FILES)]
    for path in paths:
        np.savetxt(path, np.hstack([points, np.ones((len(points), 1))]), "%.5f")
    return paths


def read_text(path):
    return [np.loadtxt(path)[:, :3].reshape(-1, 20, 3).transpose(2, 0, 1)]


def skeletons(folder, rng):
    """NTU RGB+D's: a line a joint of each body of each frame."""
    raw, lines = people(rng), [str(FRAMES)]
    for frame in raw.transpose(1, 3, 2, 0):
        lines.append("2")
        for number, body in enumerate(frame):
            lines += [f"{number} 0 1 1 1 1 0 0.02 -0.05 2", "25"]
            lines += [
                f"{x:.6f} {y:.6f} {z:.6f} 277.4 191.8 1036.2 519.2 -0.2 0.1 0.9 -0.1 2" for x, y, z in body
            ]
    paths = [folder / f"S001C001P001R001A{index + 1:03d}.skeleton" for index in range(FILES)]
    for path in paths:
        path.write_text("\n".join(lines))
    return paths


def preprocessed(folder, rng):
    """CrosSCLR's: (N, 3, 50, 25, 2), resampled already, and IKEM's three-tuples."""
    clips = 10 * CLIPS  # a tenth of what NTU RGB+D has
    np.save(folder / "train_position.npy", np.stack([people(rng, frames=50)] * clips))
    names = [f"S001C001P001R{index // 60 + 1:03d}A{index % 60 + 1:03d}.skeleton" for index in range(clips)]
    columns = (names, [index % 60 for index in range(clips)], [FRAMES] * clips)
    (folder / "train_label.pkl").write_bytes(pickle.dumps(columns))
    return [folder]


def read_preprocessed(folder):
    """As its feeder does: the labels whole, each clip copied from a map of the file."""
    with (folder / "train_label.pkl").open("rb") as file:
        pickle.load(file)
    mapped = np.load(folder / "train_position.npy", mmap_mode="r")
    for index in range(len(mapped)):
        yield np.array(mapped[index])


def lines(rows, sign=" "):
    return "".join(sign.join(f"{number:.5f}" for number in row) + "\n" for row in rows)


def pairs(folder, rng):
    """SBU's: a line a frame of two bodies, behind its number."""
    paths = [folder / "s01s02" / "01" / f"{index:03d}" / "skeleton_pos.txt" for index in range(FILES)]
    for path in paths:
        path.parent.mkdir(parents=True)
        rows = people(rng, 15).transpose(1, 3, 2, 0).reshape(FRAMES, -1)
        path.write_text(lines(np.column_stack([np.arange(FRAMES), rows]), ","))
    return paths


def read_pair(path):
    return [np.loadtxt(path, delimiter=",")[:, 1:].reshape(-1, 2, 15, 3).transpose(3, 0, 2, 1)]


def recordings(folder, rng):
    """PKU-MMD's: a line a frame of two bodies, minutes of them."""
    paths = [folder / f"000{index}-L.txt" for index in range(2)]
    for path in paths:
        path.write_text(lines(people(rng, frames=LONG).transpose(1, 3, 2, 0).reshape(LONG, -1)))
    return paths


def read_recording(path):
    return [np.loadtxt(path).reshape(-1, 2, 25, 3).transpose(3, 0, 2, 1)]


def flown(folder, rng):
    """UAV-Human's: a line a joint, behind lines with counts."""
    paths = [folder / f"P000S00G10B10H10UC022000LC021000A000R0_{index:08d}.txt" for index in range(FILES)]
    for path in paths:
        words = [str(FRAMES)]
        for frame in people(rng, 17, 1).transpose(1, 3, 2, 0):
            joints = [f"{x:.5f} {y:.5f} {z:.5f} 277.4 191.8 0 0 0 0 0 0 2" for x, y, z in frame[0]]
            words += ["1", "0 0 1 1 1 1 0 0 0 2", "17", *joints]
        path.write_text("\n".join(words))
    return paths


def read_flown(path):
    """Line by line, as its script does; the second body is nobody."""
    with path.open() as file:
        clip = np.zeros((3, int(file.readline()), 17, 2))
        for frame in range(clip.shape[1]):
            for body in range(int(file.readline())):
                file.readline()
                for joint in range(int(file.readline())):
                    clip[:, frame, joint, body] = [float(word) for word in file.readline().split()[:3]]
    return [clip]


def at_home(folder, rng):
    """Toyota Smarthome's: JSON, of each person all x, all y, all z."""
    paths = [folder / f"Cook.Cut_p03_r{index:02d}_v02_c01_pose3d.json" for index in range(FILES)]
    for path in paths:
        poses = people(rng, 13, 1)[..., 0].transpose(1, 0, 2).reshape(FRAMES, -1).round(5).tolist()
        flat = np.zeros(26).tolist()
        frames = [[{"pose2d": flat, "pose3d": pose, "cumscore": 1.5}] for pose in poses]
        path.write_text(json.dumps({"K": 1, "njts": 13, "frames": frames}))
    return paths


def read_at_home(path):
    poses = np.array([frame[0]["pose3d"] for frame in json.loads(path.read_text())["frames"]])
    return [poses.reshape(-1, 3, 13).transpose(1, 0, 2)]


def seen(rng, joints):
    """Poses in a plane: x, y and a score of each joint."""
    return np.abs(people(rng, joints, 1))[..., 0].transpose(1, 2, 0).reshape(FRAMES, -1).round(4).tolist()


def frames_of_openpose(folder, rng):
    """OpenPose's: JSON, a file a frame."""
    paths = [folder / f"clip{index}" for index in range(FILES // 4)]
    for path in paths:
        path.mkdir()
        for number, pose in enumerate(seen(rng, 25)):
            person = {"person_id": [-1], "pose_keypoints_2d": pose, "face_keypoints_2d": []}
            content = json.dumps({"version": 1.3, "people": [person]})
            (path / f"{path.name}_{number:012d}_keypoints.json").write_text(content)
    return paths


def read_openpose(folder):
    """As ST-GCN packs a clip, in our words: places and scores of each frame by themselves, then an array."""
    clip = np.zeros((3, FRAMES, 25))
    for path in folder.glob(f"{folder.name}*.json"):
        frame = int(path.stem.split("_")[-2])
        for person in json.loads(path.read_text())["people"]:
            places, scores, points = [], [], person["pose_keypoints_2d"]
            for at in range(0, len(points), 3):
                places += [points[at], points[at + 1]]
                scores += [points[at + 2]]
            clip[:, frame] = places[0::2], places[1::2], scores
    return [clip]


def landmarks(folder, rng):
    """MediaPipe's: JSON, a file a clip of ours."""
    paths = [folder / f"clip{index}.json" for index in range(FILES)]
    for path in paths:
        frames = people(rng, 33, 1)[..., 0].transpose(1, 2, 0).round(6).tolist()
        frames = [[{"x": x, "y": y, "z": z, "visibility": 0.9} for x, y, z in frame] for frame in frames]
        path.write_text(json.dumps({"frames": [{"pose_world_landmarks": [frame]} for frame in frames]}))
    return paths


def read_landmarks(path):
    frames = json.loads(path.read_text())["frames"]
    marks = [frame["pose_world_landmarks"][0] for frame in frames]
    return [
        np.array([[(mark["x"], mark["y"], mark["z"]) for mark in one] for one in marks]).transpose(2, 0, 1)
    ]


def key_points(folder, rng):
    """COCO's, as AlphaPose writes it: JSON, a file a clip."""
    paths = [folder / f"clip{index}.json" for index in range(FILES)]
    for path in paths:
        found = [
            {"image_id": f"{number}.jpg", "category_id": 1, "keypoints": pose, "score": 2.5, "idx": 1}
            for number, pose in enumerate(seen(rng, 17))
        ]
        path.write_text(json.dumps(found))
    return paths


def read_key_points(path):
    poses = [one["keypoints"] for one in json.loads(path.read_text())]
    return [np.array(poses).reshape(-1, 17, 3).transpose(2, 0, 1)]


DEPTH, ARMS = 5, 5  # of a hierarchy: chains of so many joints


def motion(folder, rng):
    """Motion capture: BVH of 26 joints."""
    channels = "CHANNELS 3 Zrotation Xrotation Yrotation"
    words = ["HIERARCHY", "ROOT Hips {", "OFFSET 0 0 0", "CHANNELS 6 Xposition Yposition Zposition"]
    words[-1] += " Zrotation Xrotation Yrotation"
    for arm in range(ARMS):
        for depth in range(DEPTH):
            words += [f"JOINT J{arm}{depth} {{", f"OFFSET 1 {arm} 0", channels]
        words += ["End Site { OFFSET 0 1 0 }", "} " * DEPTH]
    head = "\n".join([*words, "}", "MOTION", f"Frames: {FRAMES}", "Frame Time: 0.0333333", ""])
    paths = [folder / f"clip{index}.bvh" for index in range(FILES)]
    for path in paths:
        path.write_text(head + lines(rng.uniform(-90, 90, (FRAMES, 6 + 3 * ARMS * DEPTH))))
    return paths


def read_motion(path):
    """Rotations by SciPy, all frames of a joint together; the hierarchy is known."""
    numbers = np.array([[float(w) for w in line.split()] for line in path.read_text().splitlines()[-FRAMES:]])
    turns = [Rotation.from_euler("ZXY", part, degrees=True) for part in np.split(numbers[:, 3:], 26, axis=1)]
    places = [numbers[:, :3]]
    for arm in range(ARMS):
        place, turn = places[0], turns[0]
        for depth in range(DEPTH):
            place = place + turn.apply([1, arm, 0])
            turn *= turns[1 + arm * DEPTH + depth]
            places.append(place)
    return [np.stack(places).transpose(2, 1, 0)]


def markers(folder, rng):
    """Motion capture: C3D of 40 markers."""
    import ezc3d

    paths = [folder / f"clip{index}.c3d" for index in range(FILES)]
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["RATE"]["value"] = [100]
    made["parameters"]["POINT"]["LABELS"]["value"] = [f"M{number}" for number in range(40)]
    for path in paths:
        points = people(rng, 40, 1, 2 * FRAMES)[..., 0].transpose(0, 2, 1).astype(np.float64)
        made["data"]["points"] = np.concatenate([points, np.ones_like(points[:1])])
        made.write(str(path))
    return paths


def read_markers(path):
    import ezc3d

    return [ezc3d.c3d(str(path))["data"]["points"][:3].transpose(0, 2, 1)]


def own(rng):
    return people(rng, 20, 1)[..., 0].transpose(1, 2, 0)


def own_arrays(folder, rng):
    """Arrays of one's own: .npy, a file a clip."""
    paths = [folder / f"clip{index}.npy" for index in range(CLIPS)]
    for path in paths:
        np.save(path, own(rng))
    return paths


def own_tables(folder, rng):
    """Tables of one's own: .csv, a line a frame."""
    paths = [folder / f"clip{index}.csv" for index in range(FILES)]
    for path in paths:
        path.write_text(lines(own(rng).reshape(FRAMES, -1), ","))
    return paths


def read_own_array(path):
    return [np.load(path).transpose(2, 0, 1)]


def read_own_table(path):
    return [np.loadtxt(path, delimiter=",").reshape(-1, 20, 3).transpose(2, 0, 1)]


CASES = {
    "ntu": (skeletons, lambda path: [preparation.read(path)], "as published, in our words"),
    "utd-mhad": (matlab, read_matlab, "`scipy.io.loadmat`"),
    "nw-ucla": (objects, read_objects, "`json.loads`"),
    "sbu": (pairs, read_pair, "`np.loadtxt`"),
    "msr-action3d": (texts, read_text, "`np.loadtxt`"),
    "pku-mmd": (recordings, read_recording, f"`np.loadtxt`, recordings of {LONG} frames"),
    "uav-human": (flown, read_flown, "line by line, as published"),
    "smarthome": (at_home, read_at_home, "`json.loads`"),
    "crossclr": (preprocessed, read_preprocessed, "`np.load`, mapped"),
    "agcn": (padded_arrays, read_padded, "`np.load`"),
    "ctrgcn": (archive, read_archive, "`np.load`"),
    "pyskl": (annotations, read_annotations, "`pickle.load`"),
    "openpose": (frames_of_openpose, read_openpose, "as ST-GCN packs it"),
    "mediapipe": (landmarks, read_landmarks, "`json.loads`"),
    "coco": (key_points, read_key_points, "`json.loads`"),
    "bvh": (motion, read_motion, "`float` and SciPy's rotations"),
    "c3d": (markers, read_markers, "`ezc3d`"),
    "arrays": (own_arrays, read_own_array, "`np.load`"),
    "arrays .csv": (own_tables, read_own_table, "`np.loadtxt`"),
    "npz": (packed, read_packed, "`np.load`"),
}  # format, and a kind of it → (makes its files, the usual way to read one, what that is called)
