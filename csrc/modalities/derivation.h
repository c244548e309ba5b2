// What a kernel is asked to derive: shared by the op (ops.cpp) and the kernels behind it.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

#include "modalities/modalities.h"

namespace ikem {

using torch::headeronly::ScalarType;

// Clips (N,3,T,V,M), contiguous, to modalities (P,N,3,T,V,M), contiguous. All pointers but the tables are on
// the kernel's device.
struct Derivation {
    int64_t clips, frames, joints, bodies;

    const void* x;
    ScalarType x_type;             // Float, Half or BFloat16
    const void* original_frames;   // (N,) or null: as many as `frames`
    bool original_frames_are_int;  // int64, else float
    const float* matrix;           // (N,3,3) or null
    const int64_t* crop_start;     // (N,) or null

    int32_t modality[kModalities];  // the first num_modalities are asked for, in this order
    int32_t num_modalities;
    const int64_t* parents;       // (V,) on the host; roots are their own parents
    const int64_t* axis_parents;  // (V,) on the host
    int32_t torso[3];
    int32_t root;  // the joint that carries the torso's normal

    void* out;
    ScalarType out_type;  // Float, Half or BFloat16

    IKEM_HD bool asks_for(Modality m) const {
        for (int32_t p = 0; p < num_modalities; ++p) {
            if (modality[p] == m) return true;
        }
        return false;
    }
};

// The three coordinates of some frames, each a plane of (frames, V, M) values, `stride` apart.
struct Planes {
    float* x;
    int64_t stride;

    IKEM_HD float* plane(int c) const { return x + c * stride; }
    IKEM_HD Planes from(int64_t offset) const { return {x + offset, stride}; }
    IKEM_HD Vec3 operator[](int64_t i) const { return {x[i], x[i + stride], x[i + 2 * stride]}; }
    IKEM_HD void set(int64_t i, Vec3 v) const { x[i] = v.x, x[i + stride] = v.y, x[i + 2 * stride] = v.z; }
};

// Frames after resampling ÷ frames before.
IKEM_HD float clip_speed(const Derivation& d, int64_t clip) {
    if (d.original_frames == nullptr) return 1.0f;
    const float original = d.original_frames_are_int
                               ? static_cast<float>(static_cast<const int64_t*>(d.original_frames)[clip])
                               : static_cast<const float*>(d.original_frames)[clip];
    return static_cast<float>(d.frames) / original;
}

// The frame of the clip that is read for frame t of the result. A start on a GPU has not been checked (that
// would stall the stream): one that is out of range is brought into it, so that nothing else is ever read.
IKEM_HD int64_t source_frame(const Derivation& d, int64_t clip, int64_t t) {
    if (d.crop_start == nullptr) return t;
    const int64_t padding = d.frames / 6;
    int64_t start = d.crop_start[clip];
    start = start < 0 ? 0 : start > 2 * padding ? 2 * padding : start;
    return mirrored_frame(t, start, padding, d.frames);
}

void derive_on_cpu(const Derivation& d);

// On the current stream of the device.
void derive_on_cuda(const Derivation& d, int32_t device_index);

}  // namespace ikem
