// The graph of an encoder's block on the CPU: every loop runs over channels next to each other, which
// vectorises.
#include <type_traits>
#include <vector>

#include "common.h"
#include "encoder/encoder.h"
#include "encoder/frames.h"

namespace ikem {
namespace {

// kChannels is a constant for the usual widths, so that a joint is a few whole vectors.
template <typename T, int64_t kChannels>
IKEM_MULTIVERSION void gather_frames(const Graph& g, const T* x, T* out, int64_t frames, float* joints,
                                     float* target) {
    const int64_t C = kChannels ? kChannels : g.channels;
    for (int64_t f = 0; f < frames; ++f, x += g.joints * C, out += g.joints * g.partitions * C) {
#pragma omp simd
        for (int64_t i = 0; i < g.joints * C; ++i) joints[i] = load(x[i]);
        for (int64_t wk = 0; wk < g.joints * g.partitions; ++wk) {
#pragma omp simd
            for (int64_t c = 0; c < C; ++c) target[c] = 0.0f;
            for (int64_t e = g.first[wk]; e < g.first[wk + 1]; ++e) {
                const float* source = joints + g.source[e] * C;
                const float weight = g.weight[e];
#pragma omp simd
                for (int64_t c = 0; c < C; ++c) target[c] += weight * source[c];
            }
#pragma omp simd
            for (int64_t c = 0; c < C; ++c) store(out + wk * C + c, target[c]);
        }
    }
}

// grad_x starts as the gradient that went past the block; `products` (edges, C) sums grad · x of every edge.
template <typename T, int64_t kChannels>
IKEM_MULTIVERSION void scatter_frames(const Graph& g, const T* grad, const T* x, const T* residual,
                                      const T* output, T* grad_x, int64_t frames, float* joints,
                                      float* sources, float* target, float* products) {
    const int64_t C = kChannels ? kChannels : g.channels, size = g.joints * C;
    for (int64_t f = 0; f < frames; ++f, grad += g.partitions * size, x += size, grad_x += size) {
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) joints[i] = load(x[i]);
        if (residual == nullptr) {
#pragma omp simd
            for (int64_t i = 0; i < size; ++i) sources[i] = 0.0f;
        } else if (output == nullptr) {
#pragma omp simd
            for (int64_t i = 0; i < size; ++i) sources[i] = load(residual[i]);
            residual += size;
        } else {
#pragma omp simd
            for (int64_t i = 0; i < size; ++i) {
                const float g = load(residual[i]);
                sources[i] = load(output[i]) > 0 ? g : 0.0f;
            }
            residual += size, output += size;
        }
        for (int64_t wk = 0; wk < g.joints * g.partitions; ++wk) {
#pragma omp simd
            for (int64_t c = 0; c < C; ++c) target[c] = load(grad[wk * C + c]);
            for (int64_t e = g.first[wk]; e < g.first[wk + 1]; ++e) {
                float* source = sources + g.source[e] * C;
                const float* joint = joints + g.source[e] * C;
                float* product = products + e * C;
                const float weight = g.weight[e];
#pragma omp simd
                for (int64_t c = 0; c < C; ++c) {
                    source[c] += weight * target[c];
                    product[c] += joint[c] * target[c];
                }
            }
        }
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) store(grad_x + i, sources[i]);
    }
}

// call(constant) with the number of channels as a constant where it is a usual one, else 0.
template <int64_t kFirst, int64_t... kRest, typename Call>
void with_channels(int64_t channels, const Call& call) {
    if (channels == kFirst) return call(std::integral_constant<int64_t, kFirst>());
    if constexpr (sizeof...(kRest) > 0) {
        return with_channels<kRest...>(channels, call);
    } else {
        return call(std::integral_constant<int64_t, 0>());
    }
}

}  // namespace

template <typename T>
void graph_forward(const Graph& g, const T* x, T* out) {
    const int64_t size = g.joints * g.channels;
    with_channels<3, 4, 8, 16, 32, 64>(g.channels, [&](auto channels) {
        over_frames(g.frames, size * g.partitions, [&](int64_t first, int64_t frames) {
            std::vector<float> work(size + g.channels);
            gather_frames<T, channels>(g, x + first * size, out + first * size * g.partitions, frames,
                                       work.data(), work.data() + size);
        });
    });
}

template <typename T>
void graph_backward(const Graph& g, const T* grad, const T* x, const T* residual, const T* output, T* grad_x,
                    double* grad_weight) {
    const int64_t size = g.joints * g.channels;
    std::vector<double> products(g.edges * g.channels);
    with_channels<3, 4, 8, 16, 32, 64>(g.channels, [&](auto channels) {
        sum_over_frames(g.frames, g.edges * g.channels, products.data(),
                        [&](int64_t first, int64_t frames, float* partial) {
                            std::vector<float> work(2 * size + g.channels);
                            const int64_t at = first * size;
                            scatter_frames<T, channels>(
                                g, grad + at * g.partitions, x + at, residual ? residual + at : nullptr,
                                output ? output + at : nullptr, grad_x + at, frames, work.data(),
                                work.data() + size, work.data() + 2 * size, partial);
                        });
    });
    for (int64_t e = 0; e < g.edges; ++e) {
        for (int64_t c = 0; c < g.channels; ++c) grad_weight[e] += products[e * g.channels + c];
    }
}

template void graph_forward(const Graph&, const float*, float*);
template void graph_forward(const Graph&, const uint16_t*, uint16_t*);
template void graph_backward(const Graph&, const float*, const float*, const float*, const float*, float*,
                             double*);
template void graph_backward(const Graph&, const uint16_t*, const uint16_t*, const uint16_t*, const uint16_t*,
                             uint16_t*, double*);

}  // namespace ikem
