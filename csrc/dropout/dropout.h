// Dropout by the draws of torch's generator for CPUs: the same numbers, faster.
#pragma once

#include <cstdint>

namespace ikem {

// MT19937 where torch's generator left it: `next` is the place in `numbers` of the next draw, kSize where all
// have to be made anew.
struct MersenneTwister {
    static constexpr int64_t kSize = 624;

    uint32_t numbers[kSize];
    int64_t next;
};

// out (size,) = x · scale where a draw keeps an element, x · 0 elsewhere, in order: an element is kept where
// the lower 53 bits of two draws are below `keep`. out may be x. mask (size,): 1 where it was kept, or null.
void dropout(MersenneTwister& generator, const float* x, int64_t size, int64_t keep, float scale, float* out,
             uint8_t* mask);

// out = x · scale where mask is 1, x · 0 elsewhere.
void scale_kept(const float* x, const uint8_t* mask, int64_t size, float scale, float* out);

}  // namespace ikem
