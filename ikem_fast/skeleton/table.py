"""The layouts that the package knows by name: joint names, parents (−1 at roots), torso, shoulders, sides."""

from ikem_fast.skeleton.layout import Layout
from ikem_fast.skeleton.registry import register_layout

_NTU_JOINTS = (
    "base of spine", "middle of spine", "neck", "head",
    "left shoulder", "left elbow", "left wrist", "left hand",
    "right shoulder", "right elbow", "right wrist", "right hand",
    "left hip", "left knee", "left ankle", "left foot",
    "right hip", "right knee", "right ankle", "right foot",
    "spine", "left hand tip", "left thumb", "right hand tip", "right thumb",
)  # fmt: skip
_NTU_CHAIN = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11)
_NTU_STAR = (*_NTU_CHAIN[:21], 7, 7, 11, 11)
_NTU_SWAP = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22)

# What IKEM uses: bones with star hands, rotation axes of their own at the hands, the chain-hands graph.
NTU_RGBD = register_layout(Layout(
    name="ntu-rgb+d",
    joints=_NTU_JOINTS,
    parents=_NTU_STAR,
    axis_parents=(*_NTU_STAR[:21], 7, 21, 11, 23),
    torso=(1, 4, 8),
    shoulders=(8, 4),
    swap=_NTU_SWAP,
    edges=tuple((v, p) for v, p in enumerate(_NTU_CHAIN) if v != p),
))  # fmt: skip

# The bones of CrosSCLR, CMD and CTR-GCN.
NTU_RGBD_CHAIN = register_layout(Layout(
    name="ntu-rgb+d-chain", joints=_NTU_JOINTS, parents=_NTU_CHAIN, torso=(1, 4, 8), shoulders=(8, 4),
    swap=_NTU_SWAP,
))  # fmt: skip

KINECT_V1 = register_layout(Layout(
    name="kinect-v1",
    joints=(
        "hip centre", "spine", "shoulder centre", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=(1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    torso=(1, 4, 8),
    shoulders=(8, 4),
    swap=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15),
))  # fmt: skip

# Kinect v1 again, as UTD-MHAD numbers it: the four joints of the spine from the head down.
UTD_MHAD = register_layout(Layout(
    name="utd-mhad",
    joints=("head", "shoulder centre", "spine", "hip centre", *KINECT_V1.joints[4:]),
    parents=(1, 1, 1, 2, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18),
    torso=(2, 4, 8),
    shoulders=(8, 4),
    swap=KINECT_V1.swap,
))  # fmt: skip

SBU = register_layout(Layout(
    name="sbu",
    joints=(
        "head", "neck", "torso", "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow",
        "right hand", "left hip", "left knee", "left foot", "right hip", "right knee", "right foot",
    ),
    parents=(1, 1, 1, 1, 3, 4, 1, 6, 7, 2, 9, 10, 2, 12, 13),
    torso=(2, 3, 6),
    shoulders=(6, 3),
    swap=(0, 1, 2, 6, 7, 8, 3, 4, 5, 12, 13, 14, 9, 10, 11),
))  # fmt: skip

COCO = register_layout(Layout(
    name="coco",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
        "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip",
        "left knee", "right knee", "left ankle", "right ankle",
    ),
    parents=(0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14),
    torso=(11, 5, 6),
    shoulders=(6, 5),
    swap=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
))  # fmt: skip

OPENPOSE = register_layout(Layout(
    name="openpose",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
        "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "right eye", "left eye", "right ear", "left ear",
    ),
    parents=(0, 0, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15),
    torso=(8, 5, 2),
    shoulders=(2, 5),
    swap=(0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16),
))  # fmt: skip

H36M = register_layout(Layout(
    name="h36m",
    joints=(
        "pelvis", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "spine",
        "thorax", "neck", "head", "left shoulder", "left elbow", "left wrist",
        "right shoulder", "right elbow", "right wrist",
    ),
    parents=(0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    torso=(7, 11, 14),
    shoulders=(14, 11),
    swap=(0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13),
))  # fmt: skip

SMPL = register_layout(Layout(
    name="smpl",
    joints=(
        "pelvis", "left hip", "right hip", "lower spine", "left knee", "right knee", "middle spine",
        "left ankle", "right ankle", "upper spine", "left foot", "right foot", "neck",
        "left collar", "right collar", "head", "left shoulder", "right shoulder",
        "left elbow", "right elbow", "left wrist", "right wrist", "left hand", "right hand",
    ),
    parents=(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    torso=(3, 16, 17),
    shoulders=(17, 16),
    swap=(0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22),
))  # fmt: skip

# OpenPose's BODY_25: the 18 with the middle of the hips, and feet.
OPENPOSE_25 = register_layout(Layout(
    name="openpose-25",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
        "left wrist", "pelvis", "right hip", "right knee", "right ankle", "left hip", "left knee",
        "left ankle", "right eye", "left eye", "right ear", "left ear", "left big toe", "left small toe",
        "left heel", "right big toe", "right small toe", "right heel",
    ),
    parents=(1, 8, 1, 2, 3, 1, 5, 6, 8, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
    torso=(8, 5, 2),
    shoulders=(2, 5),
    swap=(0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21),
))  # fmt: skip

MEDIAPIPE = register_layout(Layout(
    name="mediapipe-33",
    joints=(
        "nose", "left inner eye", "left eye", "left outer eye", "right inner eye", "right eye",
        "right outer eye", "left ear", "right ear", "left mouth", "right mouth", "left shoulder",
        "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist", "left pinky",
        "right pinky", "left index", "right index", "left thumb", "right thumb", "left hip", "right hip",
        "left knee", "right knee", "left ankle", "right ankle", "left heel", "right heel",
        "left big toe", "right big toe",
    ),
    parents=(
        0, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25,
        26, 27, 28, 27, 28,
    ),
    torso=(23, 11, 12),
    shoulders=(12, 11),
    swap=(
        0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23, 26, 25,
        28, 27, 30, 29, 32, 31,
    ),
))  # fmt: skip

# Toyota Smarthome, as LCR-Net numbers its joints.
SMARTHOME = register_layout(Layout(
    name="smarthome-13",
    joints=(
        "right ankle", "left ankle", "right knee", "left knee", "right hip", "left hip", "right wrist",
        "left wrist", "right elbow", "left elbow", "right shoulder", "left shoulder", "head",
    ),
    parents=(2, 3, 4, 5, 10, 11, 8, 9, 10, 11, 12, 12, 12),
    torso=(4, 11, 10),
    shoulders=(10, 11),
    swap=(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12),
))  # fmt: skip

MSR_ACTION3D = register_layout(Layout(
    name="msr-action3d",
    joints=(
        "left shoulder", "right shoulder", "shoulder centre", "spine", "left hip", "right hip", "hip centre",
        "left elbow", "right elbow", "left wrist", "right wrist", "left hand", "right hand", "left knee",
        "right knee", "left ankle", "right ankle", "left foot", "right foot", "head",
    ),
    parents=(2, 2, 2, 2, 6, 6, 3, 0, 1, 7, 8, 9, 10, 4, 5, 13, 14, 15, 16, 2),
    torso=(3, 0, 1),
    shoulders=(1, 0),
    swap=(1, 0, 2, 3, 5, 4, 6, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 19),
))  # fmt: skip
