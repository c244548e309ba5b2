// Sixteen frames, or sixteen joints' ways through time, side by side: what kernels of narrow layers compute
// on. Whatever a layer's width is, its weights are single numbers then and its activations whole vectors.
//
// A tile is (n, 16): n numbers for each of the sixteen.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

#include "common.h"
#include "encoder/frames.h"

// Sums of products may be fused here: nothing else is held to their last bit.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions alone
#endif

// A lambda that belongs to the function it stands in, whatever instructions that is compiled for.
#define IKEM_INLINE_LAMBDA __attribute__((always_inline))

namespace ikem {

inline constexpr int64_t kLanes = 16, kHalf = 8;
// Rows of a product whose sums are in registers together.
inline constexpr int64_t kRows = 4;

typedef float Vector __attribute__((vector_size(kHalf * sizeof(float))));
typedef float Quad __attribute__((vector_size(4 * sizeof(float))));

template <typename V>
IKEM_HD V get(const float* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <typename V>
IKEM_HD void put(float* to, const V& v) {
    std::memcpy(to, &v, sizeof v);
}

// Memory for a thread, in pieces that begin where a line of the cache does; nothing is written to it.
class Scratch {
  public:
    explicit Scratch(int64_t floats) : memory_(new float[floats + 16 * kPieces]), next_(memory_.get()) {}

    float* take(int64_t floats) {
        const auto past = reinterpret_cast<uintptr_t>(next_) % 64;
        float* piece = next_ + (past ? (64 - past) / sizeof(float) : 0);
        next_ = piece + floats;
        return piece;
    }

  private:
    static constexpr int64_t kPieces = 8;
    std::unique_ptr<float[]> memory_;
    float* next_;
};

// Four numbers of a and b, which count on from a's.
#if defined(__clang__)
#define IKEM_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Places __attribute__((vector_size(4 * sizeof(int32_t))));
#define IKEM_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// Four rows become four columns.
IKEM_HD void turn(Quad& a, Quad& b, Quad& c, Quad& d) {
    const Quad ab = IKEM_SHUFFLE(a, b, 0, 4, 1, 5), cd = IKEM_SHUFFLE(c, d, 0, 4, 1, 5);
    const Quad AB = IKEM_SHUFFLE(a, b, 2, 6, 3, 7), CD = IKEM_SHUFFLE(c, d, 2, 6, 3, 7);
    a = IKEM_SHUFFLE(ab, cd, 0, 1, 4, 5), b = IKEM_SHUFFLE(ab, cd, 2, 3, 6, 7);
    c = IKEM_SHUFFLE(AB, CD, 0, 1, 4, 5), d = IKEM_SHUFFLE(AB, CD, 2, 3, 6, 7);
}

// to (columns, to_stride) = the transpose of from (rows, from_stride).
IKEM_HD void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                       int64_t to_stride) {
    const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
    for (int64_t r = 0; r < whole_rows; r += 4) {
        for (int64_t c = 0; c < whole_columns; c += 4) {
            const float* f = from + r * from_stride + c;
            Quad a = get<Quad>(f), b = get<Quad>(f + from_stride);
            Quad d = get<Quad>(f + 2 * from_stride), e = get<Quad>(f + 3 * from_stride);
            turn(a, b, d, e);
            float* t = to + c * to_stride + r;
            put(t, a), put(t + to_stride, b), put(t + 2 * to_stride, d), put(t + 3 * to_stride, e);
        }
    }
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
            to[c * to_stride + r] = from[r * from_stride + c];
        }
    }
}

// out (R, 16) = Σ_j weight[j, r] · in[j], for weight (n, R) and in (n, 16).
template <int R>
IKEM_HD void product_rows(const float* weight, const float* in, int64_t n, float* out) {
    Vector left[R] = {}, right[R] = {};
    for (int64_t j = 0; j < n; ++j, in += kLanes, weight += R) {
        const Vector a = get<Vector>(in), b = get<Vector>(in + kHalf);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            left[r] += weight[r] * a;
            right[r] += weight[r] * b;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) put(out + r * kLanes, left[r]), put(out + r * kLanes + kHalf, right[r]);
}

// A matrix (rows, depth) as `product` reads it: blocks of kRows rows, in each of them a column at a time.
template <typename Number>
void pack(int64_t rows, int64_t depth, const Number& number, float* packed) {
    for (int64_t first = 0; first < rows; first += kRows) {
        const int64_t R = std::min(kRows, rows - first);
        for (int64_t j = 0; j < depth; ++j) {
            for (int64_t r = 0; r < R; ++r) *packed++ = number(first + r, j);
        }
    }
}

// out (rows, 16) = the columns `first` … first + n − 1 of a packed matrix (rows, depth) · in (n, 16).
IKEM_HD void product(const float* packed, int64_t rows, int64_t depth, int64_t first, int64_t n,
                     const float* in, float* out) {
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) {
        product_rows<kRows>(packed + row * depth + first * kRows, in, n, out + row * kLanes);
    }
    const float* last = packed + row * depth;
    out += row * kLanes;
    if (rows - row == 1) product_rows<1>(last + first, in, n, out);
    if (rows - row == 2) product_rows<2>(last + first * 2, in, n, out);
    if (rows - row == 3) product_rows<3>(last + first * 3, in, n, out);
}

// sums (R, ·, 8), a row every `sums_stride` floats, and Q next to each other in it: += the products of R rows
// of a and Q of b over `count` steps of both.
template <int R, int Q>
IKEM_HD void correlate_block(const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t count,
                             float* sums, int64_t sums_stride) {
    Vector total[R][Q];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int q = 0; q < Q; ++q) total[r][q] = get<Vector>(sums + r * sums_stride + q * kHalf);
    }
    for (int64_t i = 0; i < count; ++i, a += a_step, b += b_step) {
#pragma GCC unroll 2
        for (int half = 0; half < kLanes; half += kHalf) {
            Vector right[Q];
#pragma GCC unroll 8
            for (int q = 0; q < Q; ++q) right[q] = get<Vector>(b + q * kLanes + half);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const Vector left = get<Vector>(a + r * kLanes + half);
#pragma GCC unroll 8
                for (int q = 0; q < Q; ++q) total[r][q] += left * right[q];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int q = 0; q < Q; ++q) put(sums + r * sums_stride + q * kHalf, total[r][q]);
    }
}

// block(R, Q, first row, first column), R and Q constants, for blocks that `correlate_block` takes and that
// make up (rows, columns).
template <typename Block>
IKEM_HD void each_block(int64_t rows, int64_t columns, const Block& block) {
    using One = std::integral_constant<int, 1>;
    using Two = std::integral_constant<int, 2>;
    using Four = std::integral_constant<int, kRows>;
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows) {
        int64_t q = 0;
        for (; q + 2 <= columns; q += 2) block(Four(), Two(), r, q);
        if (q < columns) block(Four(), One(), r, q);
    }
    for (; r < rows; ++r) {
        for (int64_t q = 0; q < columns; ++q) block(One(), One(), r, q);
    }
}

// totals (count,) += each the sum of its eight parts (count, 8).
IKEM_HD void add_parts(const float* parts, int64_t count, float* totals) {
    for (int64_t i = 0; i < count; ++i, parts += kHalf) {
        float sum = 0;
        for (int64_t part = 0; part < kHalf; ++part) sum += parts[part];
        totals[i] += sum;
    }
}

}  // namespace ikem
