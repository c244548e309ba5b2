// What is done with a row of a tile: sums of powers of two, running log-sum-exps, the largest so far. Every
// loop works on lanes side by side, in the same order whatever the processor's vectors are.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "common.h"

namespace ikem {

constexpr int64_t kLanes = 16;

// 2^x to a few units in the last place; 0 below the range of float, NaN for NaN.
IKEM_HD float power_of_two(float x) {
    constexpr float kRound = 12582912.0f;  // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    const float shifted = x + kRound;
    const float f = x - (shifted - kRound);
    float p = 1.535335820e-4f;
    p = p * f + 1.339887854e-3f;
    p = p * f + 9.618437406e-3f;
    p = p * f + 5.550332458e-2f;
    p = p * f + 2.402264791e-1f;
    p = p * f + 6.931472029e-1f;
    p = p * f + 1.0f;
    uint32_t bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    std::memcpy(&p, &bits, sizeof p);
    return x < -126.0f ? 0.0f : x != x ? x : p;
}

// Σ and max over lanes, in a fixed order.
IKEM_HD double sum_of(const float* lanes) {
    double sum = 0.0;
    for (int64_t l = 0; l < kLanes; ++l) sum += lanes[l];
    return sum;
}

IKEM_HD float largest_of(const float* lanes) {
    float largest = lanes[0];
    for (int64_t l = 1; l < kLanes; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
    return largest;
}

// body(i, lane) for n numbers, lanes of 16 side by side.
template <typename Body>
IKEM_HD void over_lanes(int64_t n, const Body& body) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
        for (int64_t l = 0; l < kLanes; ++l) body(i + l, l);
    }
    for (int64_t l = 0; i < n; ++i, ++l) body(i, l);
}

// log₂ Σ 2^x of all that was added, as maximum + log₂ total.
struct LogSumExp {
    float maximum = -std::numeric_limits<float>::infinity();
    double total = 0.0;

    void add(float other_maximum, double other_total) {
        if (other_maximum > maximum) {
            total = total * std::exp2(static_cast<double>(maximum) - other_maximum) + other_total;
            maximum = other_maximum;
        } else if (other_total != 0.0) {
            total += other_total * std::exp2(static_cast<double>(other_maximum) - maximum);
        }
    }

    double result() const { return maximum + std::log2(total); }
};

// A key of the bank and how similar it is; the nearer of two, or the first of two as near.
struct Neighbor {
    float value;
    int32_t index;

    bool operator<(const Neighbor& other) const {
        return value > other.value || (value == other.value && index < other.index);
    }
};

// The topk nearest of all that were added. Keeps up to `room` and then throws away all but topk: a few
// operations for each key that comes near enough, however many are wanted.
class Nearest {
  public:
    explicit Nearest(int64_t topk) : topk_(topk), room_(std::max<int64_t>(2 * topk, 32)) {}

    void add(const float* similarities, int64_t n, float largest, int64_t first) {
        if (largest <= least_) return;
        for (int64_t i = 0; i < n; ++i) {
            if (!(similarities[i] > least_)) continue;
            kept_.push_back({similarities[i], static_cast<int32_t>(first + i)});
            if (static_cast<int64_t>(kept_.size()) >= room_) shrink();
        }
        if (topk_ == 1) shrink();
    }

    // Those of a later part of the bank too.
    void add(const Nearest& other) { kept_.insert(kept_.end(), other.kept_.begin(), other.kept_.end()); }

    // Only the topk; how many there are.
    int64_t shrink() {
        if (static_cast<int64_t>(kept_.size()) >= topk_) {
            std::nth_element(kept_.begin(), kept_.begin() + (topk_ - 1), kept_.end());
            kept_.resize(topk_);
            least_ = kept_.back().value;
        }
        return static_cast<int64_t>(kept_.size());
    }

    // Nearest first.
    const std::vector<Neighbor>& sorted() {
        shrink();
        std::sort(kept_.begin(), kept_.end());
        return kept_;
    }

  private:
    int64_t topk_, room_;
    float least_ = -std::numeric_limits<float>::infinity();
    std::vector<Neighbor> kept_;
};

}  // namespace ikem
