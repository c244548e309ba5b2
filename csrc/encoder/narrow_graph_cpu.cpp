// A graph convolution of few channels on the CPU: joints are gathered and multiplied frame by frame, sixteen
// frames at a time, and what was gathered never reaches memory.
#include <algorithm>
#include <vector>

#include "encoder/encoder.h"
#include "encoder/lanes.h"

namespace ikem {
namespace {

// Frames `from` (count, columns) as a tile (columns, 16), zeros where there are fewer than sixteen.
template <typename T>
IKEM_HD void read_frames(const T* from, int64_t count, int64_t columns, float* rows, float* tile) {
#pragma omp simd
    for (int64_t i = 0; i < count * columns; ++i) rows[i] = load(from[i]);
    std::fill(rows + count * columns, rows + kLanes * columns, 0.0f);
    transpose(rows, columns, kLanes, columns, tile, kLanes);
}

// gathered (K·C, 16): what joint w gathers.
IKEM_HD void gather(const Graph& g, const float* joints, int64_t w, float* gathered) {
    const int64_t size = g.channels * kLanes;
    for (int64_t wk = w * g.partitions; wk < (w + 1) * g.partitions; ++wk, gathered += size) {
        int64_t e = g.first[wk];
        const int64_t end = g.first[wk + 1];
        if (e == end) {
            std::fill(gathered, gathered + size, 0.0f);
            continue;
        }
        const float* source = joints + g.source[e] * size;
        for (int64_t i = 0; i < size; i += kHalf) {
            put<Vector>(gathered + i, g.weight[e] * get<Vector>(source + i));
        }
        for (++e; e < end; ++e) {
            source = joints + g.source[e] * size;
            for (int64_t i = 0; i < size; i += kHalf) {
                put<Vector>(gathered + i, get<Vector>(gathered + i) + g.weight[e] * get<Vector>(source + i));
            }
        }
    }
}

// The opposite of `gather`: sources += weight · gathered; and products (edges, 8) += joint · gathered.
IKEM_HD void scatter(const Graph& g, const float* gathered, const float* joints, int64_t w, float* sources,
                     float* products) {
    const int64_t size = g.channels * kLanes;
    for (int64_t wk = w * g.partitions; wk < (w + 1) * g.partitions; ++wk, gathered += size) {
        for (int64_t e = g.first[wk]; e < g.first[wk + 1]; ++e) {
            const float* joint = joints + g.source[e] * size;
            float* source = sources + g.source[e] * size;
            Vector even = {}, odd = {};
            for (int64_t i = 0; i < size; i += kLanes) {
                const Vector a = get<Vector>(gathered + i), b = get<Vector>(gathered + i + kHalf);
                put<Vector>(source + i, get<Vector>(source + i) + g.weight[e] * a);
                put<Vector>(source + i + kHalf, get<Vector>(source + i + kHalf) + g.weight[e] * b);
                even += a * get<Vector>(joint + i);
                odd += b * get<Vector>(joint + i + kHalf);
            }
            put<Vector>(products + e * kHalf, get<Vector>(products + e * kHalf) + even + odd);
        }
    }
}

struct ForwardWork {
    float *rows, *joints, *gathered, *outputs;
};

template <typename T>
IKEM_MULTIVERSION void forward_frames(const Graph& g, int64_t outputs, const float* matrix, const T* x,
                                      T* out, int64_t frames, ForwardWork work) {
    const int64_t size = g.joints * g.channels, size_out = g.joints * outputs;
    const int64_t depth = g.partitions * g.channels;
    for (int64_t f = 0; f < frames; f += kLanes) {
        const int64_t count = std::min(kLanes, frames - f);
        read_frames(x + f * size, count, size, work.rows, work.joints);
        for (int64_t w = 0; w < g.joints; ++w) {
            gather(g, work.joints, w, work.gathered);
            product(matrix, outputs, depth, 0, depth, work.gathered, work.outputs + w * outputs * kLanes);
        }
        transpose(work.outputs, kLanes, size_out, kLanes, work.rows, size_out);
        T* to = out + f * size_out;
#pragma omp simd
        for (int64_t i = 0; i < count * size_out; ++i) store(to + i, work.rows[i]);
    }
}

template <typename T>
struct BackwardTensors {
    const T *grad, *x, *residual, *output;
    T* grad_x;
};

struct BackwardWork {
    float *rows, *joints, *gathered, *grads, *grad_gathered, *sources, *products, *matrix;
};

// grad_x starts as the gradient that went past the block.
template <typename T>
IKEM_HD void write_sources(const BackwardTensors<T>& t, int64_t at, int64_t count, const float* rows) {
    T* to = t.grad_x + at;
    const T* past = t.residual ? t.residual + at : nullptr;
    const T* output = t.output ? t.output + at : nullptr;
    if (past == nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) store(to + i, rows[i]);
    } else if (output == nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) store(to + i, rows[i] + load(past[i]));
    } else {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
            const float r = load(past[i]);
            store(to + i, rows[i] + (load(output[i]) > 0 ? r : 0.0f));
        }
    }
}

template <typename T>
IKEM_MULTIVERSION void backward_frames(const Graph& g, int64_t outputs, const float* transposed,
                                       const BackwardTensors<T>& t, int64_t first, int64_t frames,
                                       BackwardWork work) {
    const int64_t size = g.joints * g.channels, size_out = g.joints * outputs;
    const int64_t depth = g.partitions * g.channels;
    for (int64_t f = first; f < first + frames; f += kLanes) {
        const int64_t count = std::min(kLanes, first + frames - f);
        read_frames(t.x + f * size, count, size, work.rows, work.joints);
        read_frames(t.grad + f * size_out, count, size_out, work.rows, work.grads);
        std::fill(work.sources, work.sources + size * kLanes, 0.0f);
        for (int64_t w = 0; w < g.joints; ++w) {
            gather(g, work.joints, w, work.gathered + w * depth * kLanes);
            product(transposed, depth, outputs, 0, outputs, work.grads + w * outputs * kLanes,
                    work.grad_gathered);
            scatter(g, work.grad_gathered, work.joints, w, work.sources, work.products);
        }
        each_block(outputs, depth, [&](auto R, auto Q, int64_t r, int64_t q) IKEM_INLINE_LAMBDA {
            correlate_block<R, Q>(work.grads + r * kLanes, outputs * kLanes, work.gathered + q * kLanes,
                                  depth * kLanes, g.joints, work.matrix + (r * depth + q) * kHalf,
                                  depth * kHalf);
        });
        transpose(work.sources, kLanes, size, kLanes, work.rows, size);
        write_sources(t, f * size, count * size, work.rows);
    }
}

}  // namespace

template <typename T>
void graph_convolution(const Graph& g, int64_t outputs, const float* matrix, const T* x, T* out) {
    const int64_t size = g.joints * g.channels, size_out = g.joints * outputs;
    const int64_t depth = g.partitions * g.channels;
    std::vector<float> packed(outputs * depth);
    pack(outputs, depth, [&](int64_t r, int64_t j) { return matrix[r * depth + j]; }, packed.data());
    over_frames(g.frames, size + size_out, [&](int64_t first, int64_t frames) {
        const int64_t rows = std::max(size, size_out) * kLanes;
        Scratch scratch(rows + (size + depth + size_out) * kLanes);
        const ForwardWork work{scratch.take(rows), scratch.take(size * kLanes), scratch.take(depth * kLanes),
                               scratch.take(size_out * kLanes)};
        forward_frames(g, outputs, packed.data(), x + first * size, out + first * size_out, frames, work);
    });
}

template <typename T>
void graph_convolution_backward(const Graph& g, int64_t outputs, const float* matrix, const T* grad,
                                const T* x, const T* residual, const T* output, T* grad_x, float* grad_weight,
                                float* grad_matrix) {
    const int64_t size = g.joints * g.channels, size_out = g.joints * outputs;
    const int64_t depth = g.partitions * g.channels, numbers = g.edges + outputs * depth;
    std::vector<float> transposed(outputs * depth);
    pack(depth, outputs, [&](int64_t r, int64_t j) { return matrix[j * depth + r]; }, transposed.data());
    std::vector<double> sums(numbers);
    const BackwardTensors<T> tensors{grad, x, residual, output, grad_x};
    sum_over_frames(g.frames, numbers, sums.data(), [&](int64_t first, int64_t frames, float* partial) {
        const int64_t rows = std::max(size, size_out) * kLanes, gathered = g.joints * depth * kLanes;
        Scratch scratch(rows + gathered + (2 * size + size_out + depth) * kLanes + numbers * kHalf);
        const BackwardWork work{scratch.take(rows),
                                scratch.take(size * kLanes),
                                scratch.take(gathered),
                                scratch.take(size_out * kLanes),
                                scratch.take(depth * kLanes),
                                scratch.take(size * kLanes),
                                scratch.take(g.edges * kHalf),
                                scratch.take(outputs * depth * kHalf)};
        std::fill(work.products, work.products + g.edges * kHalf, 0.0f);
        std::fill(work.matrix, work.matrix + outputs * depth * kHalf, 0.0f);
        backward_frames(g, outputs, transposed.data(), tensors, first, frames, work);
        add_parts(work.products, g.edges, partial);
        add_parts(work.matrix, outputs * depth, partial + g.edges);
    });
    for (int64_t i = 0; i < g.edges; ++i) grad_weight[i] = static_cast<float>(sums[i]);
    for (int64_t i = 0; i < outputs * depth; ++i) grad_matrix[i] = static_cast<float>(sums[g.edges + i]);
}

#define IKEM_INSTANTIATE(T)                                                                           \
    template void graph_convolution(const Graph&, int64_t, const float*, const T*, T*);               \
    template void graph_convolution_backward(const Graph&, int64_t, const float*, const T*, const T*, \
                                             const T*, const T*, T*, float*, float*);
IKEM_INSTANTIATE(float)
IKEM_INSTANTIATE(uint16_t)
#undef IKEM_INSTANTIATE

}  // namespace ikem
