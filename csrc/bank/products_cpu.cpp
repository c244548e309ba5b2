// A block of rows × one panel at a time, its sums in registers; the panel stays in the second-level cache for
// all rows. The same code for every instruction set, as wide as its registers are and as tall as they are
// many.
#include <cstdlib>
#include <cstring>

#include "bank/products.h"
#include "common.h"

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

using Product = void (*)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, int64_t, float*,
                         int64_t, bool);

struct Machine {
    int64_t panel_width;
    Product product;
};

#define IKEM_PRODUCT(name, Vector, rows)                                                                  \
    void name(const float* a, int64_t lda, int64_t m, const float* panels, int64_t stride, int64_t depth, \
              int64_t columns, float* c, int64_t ldc, bool add) {                                         \
        all_blocks<Vector, rows>(a, lda, m, panels, stride, depth, columns, c, ldc, add);                 \
    }

#if defined(__aarch64__)
IKEM_PRODUCT(product_any, Vector8, 6)
constexpr Machine kAny{16, product_any};
#else
IKEM_PRODUCT(product_any, Vector4, 6)
constexpr Machine kAny{8, product_any};
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target("avx2,fma"))) IKEM_PRODUCT(product_avx2, Vector8, 6)
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma,avx2")))
    IKEM_PRODUCT(product_avx512, Vector16, 14)

    // The best that the processor has, or less where torch is told to make do with less.
    Machine choose() {
    const char* wish = std::getenv("ATEN_CPU_CAPABILITY");
    const auto allowed = [&](const char* name) { return wish == nullptr || std::strcmp(wish, name) == 0; };
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (avx512 && allowed("avx512")) return {32, product_avx512};
    if (avx2 && (allowed("avx2") || allowed("avx512"))) return {16, product_avx2};
    return kAny;
}
#else
Machine choose() { return kAny; }
#endif

const Machine& machine() {
    static const Machine chosen = choose();
    return chosen;
}

}  // namespace

int64_t panel_width() { return machine().panel_width; }

void product(const float* a, int64_t lda, int64_t rows, const float* panels, int64_t panel_stride,
             int64_t depth, int64_t columns, float* c, int64_t ldc, bool add) {
    machine().product(a, lda, rows, panels, panel_stride, depth, columns, c, ldc, add);
}

}  // namespace ikem
