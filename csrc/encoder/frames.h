// What all kernels of encoder.h on the CPU share: numbers of 16 bits, and loops over frames in parallel.
//
// Sums over frames are taken in float32 within a block of frames and in float64 over blocks, in their order:
// the same bits for any number of threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ikem {

inline constexpr int64_t kBlockFrames = 128;

// Loads stand outside conditions: one that may not happen keeps a loop over 16-bit numbers from being
// vectorized.
inline float load(float v) { return v; }

inline float load(uint16_t v) {
    const uint32_t bits = static_cast<uint32_t>(v) << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

inline void store(float* to, float v) { *to = v; }

// Rounds to the nearest bfloat16, to even halfway.
inline void store(uint16_t* to, float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *to = v != v ? 0x7fc0 : static_cast<uint16_t>(rounded);
}

// body(first frame, frames) for pieces of a matrix that are worth a thread.
template <typename Body>
void over_frames(int64_t frames, int64_t frame_size, const Body& body) {
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(frame_size, 1));
    torch::stable::parallel_for(0, frames, grain,
                                [&](int64_t begin, int64_t end) { body(begin, end - begin); });
}

// sums (size,) += what body(first frame, frames, partial (size,)) adds up over all frames.
template <typename Body>
void sum_over_frames(int64_t frames, int64_t size, double* sums, const Body& body) {
    const int64_t blocks = (frames + kBlockFrames - 1) / kBlockFrames;
    std::vector<float> partial(blocks * size);
    torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
            const int64_t first = block * kBlockFrames;
            body(first, std::min(kBlockFrames, frames - first), partial.data() + block * size);
        }
    });
    torch::stable::parallel_for(0, size, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t block = 0; block < blocks; ++block) {
            const float* part = partial.data() + block * size;
#pragma omp simd
            for (int64_t i = begin; i < end; ++i) sums[i] += part[i];
        }
    });
}

}  // namespace ikem
