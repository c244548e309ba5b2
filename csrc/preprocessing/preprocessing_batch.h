// A batch of raw clips as the op gets it: shared by the op (preprocessing_ops.cpp) and the GPU's kernel.
#pragma once

#include "preprocessing/preprocessing.h"

namespace ikem {

// Raw clips one after another along the frames of x (3,ΣF,V,M). All pointers are on the kernel's device.
struct RawBatch {
    Preprocessing shared;
    int64_t clips, total;  // N, ΣF

    const void* x;
    bool x_is_double;  // else float
    int64_t stride[4];
    const int64_t *starts, *lengths;  // (N,)

    int32_t* source;  // (ΣF + N,), and
    void* poses;      // (N,T,M) of Pose<Real>: memory to work in

    float* out;            // (N,3,T,V,M)
    int64_t* true_frames;  // (N,)
};

// Clip n, by one thread of a block. Starts and lengths on a GPU have not been checked (that would stall the
// stream): they are brought into x, so that nothing else is ever read.
template <typename Real, typename Sync>
IKEM_HD void preprocess(const RawBatch& batch, int64_t n, int thread, int threads, Sync sync) {
    const auto within = [](int64_t value, int64_t most) {
        return value < 0 ? 0 : value > most ? most : value;
    };
    const Preprocessing& p = batch.shared;
    const int64_t start = within(batch.starts[n], batch.total);
    const RawClip<Real> raw = {static_cast<const Real*>(batch.x) + start * batch.stride[1],
                               within(batch.lengths[n], batch.total - start),
                               {batch.stride[0], batch.stride[1], batch.stride[2], batch.stride[3]}};
    auto* poses = static_cast<Pose<Real>*>(batch.poses) + n * p.frames * p.bodies;
    ClipPreprocessor<Real, Sync> clip(p, raw, batch.source + start + n, poses, thread, threads, sync);
    const int64_t valid = clip.run(batch.out + n * 3 * p.frames * p.joints * p.bodies);
    if (thread == 0) batch.true_frames[n] = valid;
}

// On the current stream of the device.
void preprocess_on_cuda(const RawBatch& batch, int32_t device_index);

}  // namespace ikem
