// Whether all of many numbers lie within bounds: one pass, at the speed of the cache. Knows nothing of
// Python.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common.h"

namespace ikem {

// By the largest of the numbers' bits without their signs, which are in the order of magnitudes; those of NaN
// are above all others. As many lanes as fill a few of the longest vectors.
IKEM_MULTIVERSION static bool all_within(const float* numbers, ptrdiff_t count, float bound) {
    constexpr ptrdiff_t kLanes = 64;
    uint32_t largest[kLanes] = {}, limit;
    std::memcpy(&limit, &bound, sizeof limit);
    ptrdiff_t at = 0;
    const auto include = [&](ptrdiff_t lane) {
        uint32_t bits;
        std::memcpy(&bits, numbers + at + lane, sizeof bits);
        largest[lane] = std::max(largest[lane], bits & 0x7FFFFFFF);
    };
    for (; at + kLanes <= count; at += kLanes) {
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) include(lane);
    }
    for (ptrdiff_t lane = 0; at + lane < count; ++lane) include(lane);
    return *std::max_element(largest, largest + kLanes) < limit;
}

}  // namespace ikem
