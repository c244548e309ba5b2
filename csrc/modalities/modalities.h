// The arithmetic of the six modalities, for one joint of one body at one frame (docs/method.md).
//
// One reading of each formula serves the CPU kernel and the CUDA kernel. It rounds as the reference does:
// the same operations in the same order, none of them fused (the build passes -ffp-contract=off and
// -fmad=false). A direction that is nearly undefined, such as the rotation axis of nearly parallel bones,
// amplifies any difference in rounding, and b × b must come out as exactly 0.
#pragma once

#include <cmath>
#include <cstdint>

#include "common.h"

namespace ikem {

// In the order of ikem_fast.MODALITIES.
enum Modality : int32_t {
    kJoint,
    kMotion,
    kBone,
    kAcceleration,
    kRotationAxis,
    kAngularVelocity,
    kModalities
};

// Shorter vectors have no direction; torch.nn.functional.normalize divides by this instead.
constexpr double kShortest = 1e-12f;

struct Vec3 {
    float x, y, z;
};

IKEM_HD Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
IKEM_HD Vec3 operator*(Vec3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
IKEM_HD float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
IKEM_HD Vec3 cross(Vec3 a, Vec3 b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
IKEM_HD float norm(Vec3 a) { return sqrtf(dot(a, a)); }
IKEM_HD Vec3 unit(Vec3 a) {
    const float length = norm(a);
    constexpr float shortest = static_cast<float>(kShortest);
    return a * (1.0f / (length > shortest ? length : shortest));
}

// x' = M x, the matrix row by row.
IKEM_HD Vec3 transform(const float* m, Vec3 a) {
    return {m[0] * a.x + m[1] * a.y + m[2] * a.z, m[3] * a.x + m[4] * a.y + m[5] * a.z,
            m[6] * a.x + m[7] * a.y + m[8] * a.z};
}

// The frame of a clip of `frames` that stands at `t` of a window starting at `start` in the clip padded on
// both sides by `padding` mirrored frames, the edge frame repeated.
IKEM_HD int64_t mirrored_frame(int64_t t, int64_t start, int64_t padding, int64_t frames) {
    const int64_t at = t + start - padding;
    return at < 0 ? -1 - at : at < frames ? at : 2 * frames - 1 - at;
}

// speed: frames after resampling ÷ frames before, so that a derivative is per original frame.
IKEM_HD Vec3 motion(Vec3 now, Vec3 next, float speed) { return (next - now) * speed; }

IKEM_HD Vec3 acceleration(Vec3 now, Vec3 next, Vec3 after, float speed) {
    return motion(motion(now, next, speed), motion(next, after, speed), speed);
}

IKEM_HD Vec3 bone(Vec3 joint, Vec3 parent) { return joint - parent; }

// What the root carries in place of a bone: the unit normal of the plane through three joints of the torso.
// Normalised in double precision: rotation axes of its children are crossed with it, and have its last bit.
IKEM_HD Vec3 torso_normal(Vec3 a, Vec3 b, Vec3 c) {
    const Vec3 n = cross(a - c, b - c);
    const double x = n.x, y = n.y, z = n.z;
    const double length = sqrt(x * x + y * y + z * z);
    const double scale = 1.0 / (length > kShortest ? length : kShortest);
    return {static_cast<float>(x * scale), static_cast<float>(y * scale), static_cast<float>(z * scale)};
}

IKEM_HD Vec3 rotation_axis(Vec3 bone, Vec3 axis_bone) { return cross(bone, axis_bone); }

// atan2(sine, cosine) for sine ≥ 0, in [0, π]; 0 where both are 0. Off by at most 2.1e-7, the distance
// between floats near π; free of branches, so that compilers vectorise it. The polynomial is a least-maximum
// fit of (atan(a) − a) / a³ on [0, 1]; what is added to it, the nearest multiple of π/2, is held in two
// floats.
IKEM_HD float angle_of(float sine, float cosine) {
    const float adjacent = fabsf(cosine);
    const bool steep = sine > adjacent, obtuse = cosine < 0.0f;
    const float large = steep ? sine : adjacent;
    const float a = (steep ? adjacent : sine) / (large > 0.0f ? large : 1.0f);
    const float t = a * a;
    float p = 0.002622236730530858f;
    p = p * t - 0.015132504515349865f;
    p = p * t + 0.04112180694937706f;
    p = p * t - 0.0736670196056366f;
    p = p * t + 0.1057393029332161f;
    p = p * t - 0.1418597400188446f;
    p = p * t + 0.1999039649963379f;
    p = p * t - 0.33332985639572144f;
    const float acute = a + a * (t * p);
    const float high = steep ? 1.57079637f : obtuse ? 3.14159274f : 0.0f;
    const float low = steep ? -4.37113883e-8f : obtuse ? -8.74227766e-8f : 0.0f;
    return high + ((steep != obtuse ? -acute : acute) + low);
}

// The angle between two bones, in radians; 0 where one of them has no length.
IKEM_HD float angle(Vec3 bone, Vec3 axis_bone) {
    const Vec3 u = unit(bone), w = unit(axis_bone);
    return angle_of(norm(cross(u, w)), dot(u, w));
}

// About the rotation axis r at this frame, from the angles at this frame and the next.
IKEM_HD Vec3 angular_velocity(Vec3 r, float angle_now, float angle_next, float speed) {
    return unit(r) * ((angle_next - angle_now) * speed);
}

}  // namespace ikem
