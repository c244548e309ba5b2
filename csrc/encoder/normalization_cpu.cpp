// Normalization, ReLU, dropout and the residual of an encoder's block on the CPU: every loop runs over
// columns next to each other, which vectorises.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "common.h"
#include "encoder/encoder.h"
#include "encoder/frames.h"

namespace ikem {
namespace {

// 64 random bits for each frame (SplitMix64), from which `kept` draws 32 for each column.
inline uint64_t frame_bits(uint64_t seed, int64_t frame) {
    uint64_t x = seed + 0x9e3779b97f4a7c15u * static_cast<uint64_t>(frame + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

inline float kept(uint32_t low, uint32_t high, uint32_t column, uint32_t keep, float scale) {
    uint32_t x = (column * 0x9e3779b9u) ^ low;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = ((x ^ (x >> 15)) + high) * 0x846ca68bu;
    x ^= x >> 16;
    return x < keep ? scale : 0.0f;
}

template <typename T>
IKEM_MULTIVERSION void sum_frames(const T* y, int64_t frames, int64_t columns, float* sums) {
    for (int64_t f = 0; f < frames; ++f, y += columns) {
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float v = load(y[i]);
            sums[i] += v;
            sums[columns + i] += v * v;
        }
    }
}

template <typename T>
IKEM_MULTIVERSION void normalize_relu_frames(const T* y, const float* scale, const float* shift, T* out,
                                             int64_t frames, int64_t columns) {
    for (int64_t f = 0; f < frames; ++f, y += columns, out += columns) {
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float v = scale[i] * load(y[i]) + shift[i];
            store(out + i, v > 0 ? v : 0.0f);
        }
    }
}

template <typename T>
IKEM_MULTIVERSION void normalize_relu_sum_frames(const T* grad, const T* y, const float* scale,
                                                 const float* shift, int64_t frames, int64_t columns,
                                                 float* sums) {
    for (int64_t f = 0; f < frames; ++f, grad += columns, y += columns) {
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float v = load(y[i]), g = load(grad[i]);
            const float d = scale[i] * v + shift[i] > 0 ? g : 0.0f;
            sums[i] += d;
            sums[columns + i] += d * v;
        }
    }
}

template <typename T>
IKEM_MULTIVERSION void normalize_relu_backward_frames(const T* grad, const T* y, const float* scale,
                                                      const float* shift, const float* a, const float* b,
                                                      const float* c, T* grad_y, int64_t frames,
                                                      int64_t columns) {
    for (int64_t f = 0; f < frames; ++f, grad += columns, y += columns, grad_y += columns) {
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float v = load(y[i]), g = load(grad[i]);
            const float d = scale[i] * v + shift[i] > 0 ? g : 0.0f;
            store(grad_y + i, a[i] * d + b[i] * v + c[i]);
        }
    }
}

enum Residual { kNone, kIdentity, kNormalized };

template <typename T, Residual kResidual, bool kDropout>
IKEM_MULTIVERSION void output_frames(Branch<T> main, Branch<T> residual, Dropout dropout, int64_t first,
                                     T* out, int64_t frames, int64_t columns) {
    const T *y = main.y, *r = residual.y;
    const float *scale = main.affine, *shift = main.affine + columns;
    for (int64_t f = 0; f < frames; ++f, y += columns, out += columns) {
        const uint64_t bits = frame_bits(dropout.seed, first + f);
        const uint32_t low = static_cast<uint32_t>(bits), high = static_cast<uint32_t>(bits >> 32);
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            float v = scale[i] * load(y[i]) + shift[i];
            if (kDropout) v *= kept(low, high, static_cast<uint32_t>(i), dropout.keep, dropout.scale);
            if (kResidual == kIdentity) v += load(r[i]);
            if (kResidual == kNormalized) v += residual.affine[i] * load(r[i]) + residual.affine[columns + i];
            store(out + i, v > 0 ? v : 0.0f);
        }
        if (kResidual != kNone) r += columns;
    }
}

template <typename T, bool kResidual, bool kDropout>
IKEM_MULTIVERSION void output_sum_frames(const T* grad, const T* output, const T* y, const T* residual,
                                         Dropout dropout, int64_t first, int64_t frames, int64_t columns,
                                         float* sums) {
    for (int64_t f = 0; f < frames; ++f, grad += columns, output += columns, y += columns) {
        const uint64_t bits = frame_bits(dropout.seed, first + f);
        const uint32_t low = static_cast<uint32_t>(bits), high = static_cast<uint32_t>(bits >> 32);
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float g = load(grad[i]), d = load(output[i]) > 0 ? g : 0.0f;
            float e = d;
            if (kDropout) e *= kept(low, high, static_cast<uint32_t>(i), dropout.keep, dropout.scale);
            sums[i] += e;
            sums[columns + i] += e * load(y[i]);
            if (kResidual) {
                sums[2 * columns + i] += d;
                sums[3 * columns + i] += d * load(residual[i]);
            }
        }
        if (kResidual) residual += columns;
    }
}

template <typename T, bool kDropout>
IKEM_MULTIVERSION void output_backward_frames(const T* grad, const T* output, const T* y, const float* a,
                                              const float* b, const float* c, Dropout dropout, int64_t first,
                                              T* grad_y, int64_t frames, int64_t columns) {
    for (int64_t f = 0; f < frames;
         ++f, grad += columns, output += columns, y += columns, grad_y += columns) {
        const uint64_t bits = frame_bits(dropout.seed, first + f);
        const uint32_t low = static_cast<uint32_t>(bits), high = static_cast<uint32_t>(bits >> 32);
#pragma omp simd
        for (int64_t i = 0; i < columns; ++i) {
            const float g = load(grad[i]);
            float e = load(output[i]) > 0 ? g : 0.0f;
            if (kDropout) e *= kept(low, high, static_cast<uint32_t>(i), dropout.keep, dropout.scale);
            store(grad_y + i, a[i] * e + b[i] * load(y[i]) + c[i]);
        }
    }
}

template <typename Call>
void with_flag(bool flag, const Call& call) {
    flag ? call(std::true_type()) : call(std::false_type());
}

}  // namespace

template <typename T>
void normalization_statistics(const Normalization& n, const T* y, float* running_mean, float* running_var,
                              float* affine) {
    const int64_t V = n.joints, C = n.channels, columns = n.columns();
    std::vector<double> sums(2 * columns);
    if (n.batch) {
        sum_over_frames(n.frames, 2 * columns, sums.data(),
                        [&](int64_t first, int64_t frames, float* partial) {
                            sum_frames(y + first * columns, frames, columns, partial);
                        });
    }
    std::copy_n(sums.data(), columns, n.column_sums());
    const double frames = static_cast<double>(n.frames), count = frames * V;
    for (int64_t c = 0; c < C; ++c) {
        double mean = running_mean[c], variance = running_var[c];
        if (n.batch) {
            double total = 0, squares = 0;
            for (int64_t v = 0; v < V; ++v) {
                const double bias = n.bias_at(v, c), sum = sums[v * C + c];
                total += sum + frames * bias;
                squares += sums[columns + v * C + c] + bias * (2 * sum + frames * bias);
            }
            mean = total / count;
            variance = std::max(squares / count - mean * mean, 0.0);
            const double unbiased = variance * (count / std::max(count - 1, 1.0));
            running_mean[c] += static_cast<float>(n.momentum * (mean - running_mean[c]));
            running_var[c] += static_cast<float>(n.momentum * (unbiased - running_var[c]));
        }
        const double inverse = 1.0 / std::sqrt(variance + n.eps), scale = n.gamma[c] * inverse;
        n.mean()[c] = mean, n.inverse()[c] = inverse;
        for (int64_t v = 0; v < V; ++v) {
            affine[v * C + c] = static_cast<float>(scale);
            affine[columns + v * C + c] = static_cast<float>(n.beta[c] + scale * (n.bias_at(v, c) - mean));
        }
    }
}

void normalization_gradients(const Normalization& n, const double* sums, float* coefficients,
                             NormalizationGradients gradients) {
    const int64_t V = n.joints, C = n.channels, columns = n.columns();
    const double frames = static_cast<double>(n.frames), count = frames * V;
    for (int64_t c = 0; c < C; ++c) {
        double grad_beta = 0, products = 0;
        for (int64_t v = 0; v < V; ++v) {
            const double d = sums[v * C + c];
            grad_beta += d;
            products += sums[columns + v * C + c] + d * n.bias_at(v, c);
        }
        const double mean = n.mean()[c], inverse = n.inverse()[c];
        const double grad_gamma = (products - grad_beta * mean) * inverse;
        const double a = n.gamma[c] * inverse, b = n.batch ? -a * inverse * grad_gamma / count : 0.0;
        double grad_bias = 0;
        for (int64_t v = 0; v < V; ++v) {
            const int64_t at = v * C + c;
            const double rest = n.batch ? b * (n.bias_at(v, c) - mean) - a * grad_beta / count : 0.0;
            coefficients[at] = static_cast<float>(a);
            coefficients[columns + at] = static_cast<float>(b);
            coefficients[2 * columns + at] = static_cast<float>(rest);
            grad_bias += a * sums[at] + b * n.column_sums()[at] + rest * frames;
            if (n.bias_joints != 1) gradients.bias[at] = static_cast<float>(grad_bias), grad_bias = 0;
        }
        if (n.bias_joints == 1) gradients.bias[c] = static_cast<float>(grad_bias);
        gradients.gamma[c] = static_cast<float>(grad_gamma);
        gradients.beta[c] = static_cast<float>(grad_beta);
    }
}

template <typename T>
void normalize_relu(Matrix m, const T* y, const float* affine, T* out) {
    over_frames(m.frames, m.columns, [&](int64_t first, int64_t frames) {
        const int64_t at = first * m.columns;
        normalize_relu_frames(y + at, affine, affine + m.columns, out + at, frames, m.columns);
    });
}

template <typename T>
void normalize_relu_backward(const Normalization& n, const T* grad, const T* y, const float* affine,
                             T* grad_y, NormalizationGradients gradients) {
    const int64_t columns = n.columns();
    const float *scale = affine, *shift = affine + columns;
    std::vector<double> sums(2 * columns);
    std::vector<float> abc(3 * columns);
    sum_over_frames(n.frames, 2 * columns, sums.data(), [&](int64_t first, int64_t frames, float* partial) {
        const int64_t at = first * columns;
        normalize_relu_sum_frames(grad + at, y + at, scale, shift, frames, columns, partial);
    });
    normalization_gradients(n, sums.data(), abc.data(), gradients);
    over_frames(n.frames, columns, [&](int64_t first, int64_t frames) {
        const int64_t at = first * columns;
        normalize_relu_backward_frames(grad + at, y + at, scale, shift, abc.data(), abc.data() + columns,
                                       abc.data() + 2 * columns, grad_y + at, frames, columns);
    });
}

template <typename T>
void block_output(Matrix m, Branch<T> main, Branch<T> residual, Dropout dropout, T* out) {
    const auto run = [&](auto kind, auto drops) {
        over_frames(m.frames, m.columns, [&](int64_t first, int64_t frames) {
            const int64_t at = first * m.columns;
            const Branch<T> y{main.y + at, main.affine};
            const Branch<T> r{residual.y ? residual.y + at : nullptr, residual.affine};
            output_frames<T, kind, drops>(y, r, dropout, first, out + at, frames, m.columns);
        });
    };
    with_flag(dropout.active, [&](auto drops) {
        if (residual.y == nullptr) {
            run(std::integral_constant<Residual, kNone>(), drops);
        } else if (residual.affine == nullptr) {
            run(std::integral_constant<Residual, kIdentity>(), drops);
        } else {
            run(std::integral_constant<Residual, kNormalized>(), drops);
        }
    });
}

// The second pass over one branch: from its sums to its gradients.
template <typename T, bool kDropout>
void branch_backward(const T* grad, const T* output, const BranchBackward<T>& branch, const double* sums,
                     Dropout dropout) {
    const Normalization& n = branch.normalization;
    const int64_t columns = n.columns();
    std::vector<float> abc(3 * columns);
    normalization_gradients(n, sums, abc.data(), branch.gradients);
    over_frames(n.frames, columns, [&](int64_t first, int64_t frames) {
        const int64_t at = first * columns;
        output_backward_frames<T, kDropout>(grad + at, output + at, branch.y + at, abc.data(),
                                            abc.data() + columns, abc.data() + 2 * columns, dropout, first,
                                            branch.grad_y + at, frames, columns);
    });
}

template <typename T>
void block_output_backward(const T* grad, const T* output, const BranchBackward<T>& main,
                           const BranchBackward<T>* residual, Dropout dropout) {
    const int64_t frames = main.normalization.frames, columns = main.normalization.columns();
    std::vector<double> sums((residual ? 4 : 2) * columns);
    with_flag(dropout.active, [&](auto drops) {
        with_flag(residual != nullptr, [&](auto has_residual) {
            const auto size = static_cast<int64_t>(sums.size());
            sum_over_frames(frames, size, sums.data(), [&](int64_t first, int64_t count, float* partial) {
                const int64_t at = first * columns;
                output_sum_frames<T, has_residual, drops>(grad + at, output + at, main.y + at,
                                                          has_residual ? residual->y + at : nullptr, dropout,
                                                          first, count, columns, partial);
            });
        });
        branch_backward<T, drops>(grad, output, main, sums.data(), dropout);
    });
    if (residual) branch_backward<T, false>(grad, output, *residual, sums.data() + 2 * columns, dropout);
}

#define IKEM_INSTANTIATE(T)                                                                           \
    template void normalization_statistics(const Normalization&, const T*, float*, float*, float*);   \
    template void normalize_relu(Matrix, const T*, const float*, T*);                                 \
    template void normalize_relu_backward(const Normalization&, const T*, const T*, const float*, T*, \
                                          NormalizationGradients);                                    \
    template void block_output(Matrix, Branch<T>, Branch<T>, Dropout, T*);                            \
    template void block_output_backward(const T*, const T*, const BranchBackward<T>&,                 \
                                        const BranchBackward<T>*, Dropout);
IKEM_INSTANTIATE(float)
IKEM_INSTANTIATE(uint16_t)
#undef IKEM_INSTANTIATE

}  // namespace ikem
