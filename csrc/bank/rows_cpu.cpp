// Every loop works on lanes side by side, in the same order whatever the processor's vectors are.
#include <cstring>

#include "bank/rows.h"
#include "common.h"

namespace ikem {
namespace {

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

// e as in the header; of a pair, kBoth.
template <bool kBoth>
IKEM_HD void add_pair_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                              float* weights_x, float* weights_y) {
    over_lanes(n, [&](int64_t i, int64_t) {
        const float e = factor * power_of_two(x[i] * y[i] - offset);
        weights_x[i] += e * y[i];
        if (kBoth) weights_y[i] += e * x[i];
    });
}

}  // namespace

IKEM_MULTIVERSION float largest(const float* x, int64_t n) {
    float lanes[kLanes];
    for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l]; });
    return largest_of(lanes);
}

IKEM_MULTIVERSION double exponentials(float* x, int64_t n, float maximum) {
    float lanes[kLanes] = {};
    over_lanes(n, [&](int64_t i, int64_t l) {
        x[i] = power_of_two(x[i] - maximum);
        lanes[l] += x[i];
    });
    return sum_of(lanes);
}

IKEM_MULTIVERSION double sum_of_exponentials(const float* x, int64_t n, float scale, float maximum) {
    float lanes[kLanes] = {};
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] += power_of_two(x[i] * scale - maximum); });
    return sum_of(lanes);
}

IKEM_MULTIVERSION float largest_product(const float* x, const float* y, int64_t n) {
    float lanes[kLanes];
    for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
    over_lanes(n, [&](int64_t i, int64_t l) {
        const float v = x[i] * y[i];
        lanes[l] = v > lanes[l] ? v : lanes[l];
    });
    return largest_of(lanes);
}

IKEM_MULTIVERSION double sum_of_product_exponentials(const float* x, const float* y, int64_t n,
                                                     float maximum) {
    float lanes[kLanes] = {};
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] += power_of_two(x[i] * y[i] - maximum); });
    return sum_of(lanes);
}

IKEM_MULTIVERSION void own_weights(const float* x, int64_t n, float scale, float offset, float factor,
                                   float* weights) {
    over_lanes(n, [&](int64_t i, int64_t) { weights[i] = factor * power_of_two(x[i] * scale - offset); });
}

IKEM_MULTIVERSION void pair_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                                    float* weights_x, float* weights_y) {
    add_pair_weights<true>(x, y, n, offset, factor, weights_x, weights_y);
}

IKEM_MULTIVERSION void anchor_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                                      float* weights_x) {
    add_pair_weights<false>(x, y, n, offset, factor, weights_x, nullptr);
}

IKEM_MULTIVERSION int64_t count_above(const float* x, int64_t n, float limit) {
    int32_t lanes[kLanes] = {};
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] += x[i] > limit; });
    int64_t sum = 0;
    for (int32_t lane : lanes) sum += lane;
    return sum;
}

IKEM_MULTIVERSION double weighted_difference(const float* weights, const float* x, const float* y,
                                             int64_t n) {
    float lanes[kLanes] = {};
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] += weights[i] * (x[i] - y[i]); });
    return sum_of(lanes);
}

IKEM_MULTIVERSION void difference(float* x, const float* y, int64_t n, float a, float b) {
    over_lanes(n, [&](int64_t i, int64_t) { x[i] = a * x[i] - b * y[i]; });
}

IKEM_MULTIVERSION void scale_row(float* x, int64_t n, float factor) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace ikem
