// Whether all of many numbers lie within bounds: one pass, at the speed of the cache. Knows nothing of
// Python.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "common.h"

namespace ikem {

// Without a branch, so that it is done on vectors; NaN lies within no bound.
IKEM_MULTIVERSION static bool all_within(const float* numbers, ptrdiff_t count, float bound) {
    int32_t beyond = 0;
#pragma GCC unroll 4
    for (ptrdiff_t at = 0; at < count; ++at) beyond |= !(std::fabs(numbers[at]) < bound);
    return !beyond;
}

}  // namespace ikem
