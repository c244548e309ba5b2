// A block of rows × one panel at a time, its sums in registers; the panel stays in the second-level cache for
// all rows. The same code for every instruction set, as wide as its registers are and as tall as they are
// many.
#include <cstdlib>
#include <cstring>

#include "common.h"
#include "products/products.h"

// Sums of products may be fused here: nothing else is held to their last bit.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never leave this file
#endif

namespace ikem {
namespace {

typedef float Vector4 __attribute__((vector_size(16)));
typedef float Vector8 __attribute__((vector_size(32)));
typedef float Vector16 __attribute__((vector_size(64)));

template <typename Vector>
IKEM_HD Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <typename Vector>
IKEM_HD void store(float* to, Vector v) {
    std::memcpy(to, &v, sizeof v);
}

template <typename Vector, int kRows>
IKEM_HD void block(const float* a, int64_t lda, const float* panel, int64_t depth, float* c, int64_t ldc,
                   bool add) {
    constexpr int kLanes = sizeof(Vector) / sizeof(float);
    Vector sums[kRows][2] = {};
    for (int64_t k = 0; k < depth; ++k, panel += 2 * kLanes) {
        const Vector left = load<Vector>(panel), right = load<Vector>(panel + kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const float x = a[i * lda + k];
            sums[i][0] += x * left;
            sums[i][1] += x * right;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
        float* to = c + i * ldc;
        if (add) {
            sums[i][0] += load<Vector>(to);
            sums[i][1] += load<Vector>(to + kLanes);
        }
        store(to, sums[i][0]);
        store(to + kLanes, sums[i][1]);
    }
}

// Up to kRows − 1 rows that are left.
template <typename Vector, int kRows>
IKEM_HD void last_block(int64_t rows, const float* a, int64_t lda, const float* panel, int64_t depth,
                        float* c, int64_t ldc, bool add) {
    if constexpr (kRows > 0) {
        if (rows == kRows) return block<Vector, kRows>(a, lda, panel, depth, c, ldc, add);
        last_block<Vector, kRows - 1>(rows, a, lda, panel, depth, c, ldc, add);
    }
}

template <typename Vector, int kRows>
IKEM_HD void all_blocks(const float* a, int64_t lda, int64_t rows, const float* panels, int64_t panel_stride,
                        int64_t depth, int64_t columns, float* c, int64_t ldc, bool add) {
    constexpr int64_t kWidth = 2 * sizeof(Vector) / sizeof(float);
    for (int64_t first = 0; first < columns; first += kWidth, panels += panel_stride) {
        int64_t row = 0;
        for (; row + kRows <= rows; row += kRows) {
            block<Vector, kRows>(a + row * lda, lda, panels, depth, c + row * ldc + first, ldc, add);
        }
        last_block<Vector, kRows - 1>(rows - row, a + row * lda, lda, panels, depth, c + row * ldc + first,
                                      ldc, add);
    }
}

// Of two strips: each row adds the product of every number of a with every number of b.
template <typename Vector, int kColumns, int kStrip>
IKEM_HD void strip(const float* a, const float* b, int64_t depth, float* c) {
    constexpr int kLanes = sizeof(Vector) / sizeof(float);
    Vector sums[kColumns][2] = {};
    for (int64_t k = 0; k < depth; ++k, a += kStrip, b += 2 * kLanes) {
        const Vector left = load<Vector>(b), right = load<Vector>(b + kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kColumns; ++i) {
            sums[i][0] += a[i] * left;
            sums[i][1] += a[i] * right;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kColumns; ++i, c += 2 * kLanes) {
        store(c, sums[i][0]);
        store(c + kLanes, sums[i][1]);
    }
}

template <typename Vector, int kColumns, int kStrip>
IKEM_HD void any_strip(int64_t columns, const float* a, const float* b, int64_t depth, float* c) {
    if constexpr (kColumns > 0) {
        if (columns == kColumns) return strip<Vector, kColumns, kStrip>(a, b, depth, c);
        any_strip<Vector, kColumns - 1, kStrip>(columns, a, b, depth, c);
    }
}

using Product = void (*)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, int64_t, float*,
                         int64_t, bool);

using Correlate = void (*)(const float*, int64_t, const float*, int64_t, float*);

struct Machine {
    int64_t panel_width, strip_width;
    Product product;
    Correlate correlate;
};

// `target` says for which instruction set.
#define IKEM_PRODUCTS(name, target, Vector, rows)                                                            \
    target void product_##name(const float* a, int64_t lda, int64_t m, const float* panels, int64_t stride,  \
                               int64_t depth, int64_t columns, float* c, int64_t ldc, bool add) {            \
        all_blocks<Vector, rows>(a, lda, m, panels, stride, depth, columns, c, ldc, add);                    \
    }                                                                                                        \
    target void correlate_##name(const float* a, int64_t columns, const float* b, int64_t depth, float* c) { \
        any_strip<Vector, rows, rows>(columns, a, b, depth, c);                                              \
    }                                                                                                        \
    constexpr Machine k_##name{2 * sizeof(Vector) / sizeof(float), rows, product_##name, correlate_##name};

#if defined(__aarch64__)
IKEM_PRODUCTS(any, , Vector8, 6)
#else
IKEM_PRODUCTS(any, , Vector4, 6)
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
IKEM_PRODUCTS(avx2, __attribute__((target("avx2,fma"))), Vector8, 6)
IKEM_PRODUCTS(avx512, __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma,avx2"))), Vector16, 14)

// The best that the processor has, or less where torch is told to make do with less.
Machine choose() {
    const char* wish = std::getenv("ATEN_CPU_CAPABILITY");
    const auto allowed = [&](const char* name) { return wish == nullptr || std::strcmp(wish, name) == 0; };
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (avx512 && allowed("avx512")) return k_avx512;
    if (avx2 && (allowed("avx2") || allowed("avx512"))) return k_avx2;
    return k_any;
}
#else
Machine choose() { return k_any; }
#endif

const Machine& machine() {
    static const Machine chosen = choose();
    return chosen;
}

}  // namespace

int64_t panel_width() { return machine().panel_width; }

int64_t strip_width() { return machine().strip_width; }

void product(const float* a, int64_t lda, int64_t rows, const float* panels, int64_t panel_stride,
             int64_t depth, int64_t columns, float* c, int64_t ldc, bool add) {
    machine().product(a, lda, rows, panels, panel_stride, depth, columns, c, ldc, add);
}

void correlate(const float* a, int64_t columns, const float* b, int64_t depth, float* c) {
    machine().correlate(a, columns, b, depth, c);
}

}  // namespace ikem
