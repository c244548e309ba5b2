// Draws come one after another, so one thread makes them, on vectors; all else is done while they are in the
// first-level cache.
// Source: Matsumoto and Nishimura, "Mersenne Twister" (1998).
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "common.h"
#include "dropout/dropout.h"

namespace ikem {
namespace {

constexpr int64_t kElements = 1024;  // that are drawn at a time
constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

IKEM_HD uint32_t twisted(uint32_t upper, uint32_t lower, uint32_t far) {
    const uint32_t mixed = (upper & 0x80000000u) | (lower & 0x7fffffffu);
    return far ^ (mixed >> 1) ^ (-(lower & 1u) & 0x9908b0dfu);
}

IKEM_HD void renew(uint32_t* x) {
    constexpr int64_t kSize = MersenneTwister::kSize, kFar = 397;
#pragma omp simd safelen(16)
    for (int64_t i = 0; i < kSize - kFar; ++i) x[i] = twisted(x[i], x[i + 1], x[i + kFar]);
#pragma omp simd safelen(16)
    for (int64_t i = kSize - kFar; i < kSize - 1; ++i) x[i] = twisted(x[i], x[i + 1], x[i + kFar - kSize]);
    x[kSize - 1] = twisted(x[kSize - 1], x[0], x[kFar - 1]);
}

IKEM_HD void draw(MersenneTwister& generator, int64_t count, uint32_t* draws) {
    while (count > 0) {
        if (generator.next == MersenneTwister::kSize) {
            renew(generator.numbers);
            generator.next = 0;
        }
        const int64_t some = std::min(count, MersenneTwister::kSize - generator.next);
        const uint32_t* from = generator.numbers + generator.next;
#pragma omp simd
        for (int64_t i = 0; i < some; ++i) {
            uint32_t y = from[i];
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c5680u;
            y ^= (y << 15) & 0xefc60000u;
            draws[i] = y ^ (y >> 18);
        }
        generator.next += some, draws += some, count -= some;
    }
}

// The first of two draws is the upper half.
IKEM_HD void choose(const uint32_t* draws, int64_t size, int64_t keep, uint8_t* kept) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
        const uint64_t both = static_cast<uint64_t>(draws[2 * i] & 0x1fffffu) << 32 | draws[2 * i + 1];
        kept[i] = static_cast<int64_t>(both) < keep;
    }
}

IKEM_MULTIVERSION void scale_some(const float* x, const uint8_t* kept, int64_t size, float scale,
                                  float* out) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) out[i] = x[i] * (kept[i] ? scale : 0.0f);
}

IKEM_MULTIVERSION void draw_kept(MersenneTwister& generator, int64_t size, int64_t keep, uint8_t* kept) {
    uint32_t draws[2 * kElements];
    draw(generator, 2 * size, draws);
    choose(draws, size, keep, kept);
}

}  // namespace

void dropout(MersenneTwister& generator, const float* x, int64_t size, int64_t keep, float scale, float* out,
             uint8_t* mask) {
    uint8_t own[kElements];
    for (int64_t at = 0; at < size; at += kElements) {
        const int64_t some = std::min(kElements, size - at);
        uint8_t* kept = mask == nullptr ? own : mask + at;
        draw_kept(generator, some, keep, kept);
        scale_some(x + at, kept, some, scale, out + at);
    }
}

void scale_kept(const float* x, const uint8_t* mask, int64_t size, float scale, float* out) {
    torch::stable::parallel_for(0, size, kGrain, [&](int64_t begin, int64_t end) {
        scale_some(x + begin, mask + begin, end - begin, scale, out + begin);
    });
}

}  // namespace ikem
