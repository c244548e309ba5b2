#include <cmath>
#include <cstring>

#include "bank/tiles.h"
#include "common.h"

namespace ikem {
namespace {

constexpr float kShortest = 1e-12f;  // as torch.nn.functional.normalize

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

float widened(float v) { return v; }
float widened(Half v) { return static_cast<float>(v); }
float widened(BFloat16 v) { return static_cast<float>(v); }

// call(typed pointer to the keys) for the bank's dtype.
template <typename Call>
void with_type(const Bank& bank, const Call& call) {
    if (bank.type == ScalarType::Float) return call(static_cast<const float*>(bank.keys));
    if (bank.type == ScalarType::Half) return call(static_cast<const Half*>(bank.keys));
    call(static_cast<const BFloat16*>(bank.keys));
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define IKEM_SHUFFLES
#endif
#endif

// Four numbers of four keys, turned round.
IKEM_HD void turn_four(const float* from, int64_t between_keys, float* to, int64_t width) {
#ifdef IKEM_SHUFFLES
    typedef float Four __attribute__((vector_size(16)));
    Four a, b, c, d;
    std::memcpy(&a, from, sizeof a);
    std::memcpy(&b, from + between_keys, sizeof b);
    std::memcpy(&c, from + 2 * between_keys, sizeof c);
    std::memcpy(&d, from + 3 * between_keys, sizeof d);
    const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
               cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const Four turned[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
        __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
    for (int64_t i = 0; i < 4; ++i) std::memcpy(to + i * width, &turned[i], sizeof(Four));
#else
    for (int64_t i = 0; i < 4; ++i) {
        for (int64_t l = 0; l < 4; ++l) to[i * width + l] = from[l * between_keys + i];
    }
#endif
}

// One panel of rows (K,D) of floats; how many numbers of each key are in it.
IKEM_HD int64_t turn_panel(const float* from, int64_t between_keys, int64_t dim, int64_t width,
                           float* panel) {
    int64_t d = 0;
    for (; d + 4 <= dim; d += 4) {
        for (int64_t l = 0; l < width; l += 4) {
            turn_four(from + l * between_keys + d, between_keys, panel + d * width + l, width);
        }
    }
    return d;
}

template <typename T>
int64_t turn_panel(const T*, int64_t, int64_t, int64_t, float*) {
    return 0;
}

// Keys that lie number by number, such as rows (K,D): a panel at a time stays in the first-level cache.
template <typename T>
void pack_rows(const T* from, int64_t between_keys, int64_t between_numbers, int64_t dim, int64_t keys,
               float* panels, int64_t between_panels) {
    const int64_t width = panel_width();
    for (int64_t key = 0; key < keys; key += width, panels += between_panels) {
        const int64_t there = std::min(width, keys - key);
        const bool plain = there == width && between_numbers == 1;
        if (there < width) std::fill_n(panels, dim * width, 0.0f);
        const int64_t done = plain ? turn_panel(from, between_keys, dim, width, panels) : 0;
        for (int64_t l = 0; l < there; ++l, from += between_keys) {
            for (int64_t d = done; d < dim; ++d) panels[d * width + l] = widened(from[d * between_numbers]);
        }
    }
}

// Keys that lie side by side, a bank (D,K): a number of all keys is read in one go, since the same number of
// the next few keys lies in the same place of the cache for every d.
template <typename T>
void pack_columns(const T* from, int64_t between_keys, int64_t between_numbers, int64_t dim, int64_t keys,
                  float* panels, int64_t between_panels) {
    const int64_t width = panel_width();
    for (int64_t d = 0; d < dim; ++d, from += between_numbers, panels += width) {
        float* to = panels;
        for (int64_t key = 0; key < keys; key += width, to += between_panels) {
            const int64_t there = std::min(width, keys - key);
            if (between_keys == 1) {
                for (int64_t l = 0; l < there; ++l) to[l] = widened(from[key + l]);
            } else {
                for (int64_t l = 0; l < there; ++l) to[l] = widened(from[(key + l) * between_keys]);
            }
            std::fill(to + there, to + width, 0.0f);
        }
    }
}

// Rows (n, width) made of unit length; `inverse` (n,): 1 / their length before.
void normalize(const float* x, int64_t rows, int64_t width, float* unit, float* inverse) {
    for (int64_t row = 0; row < rows; ++row, x += width, unit += width) {
        double square = 0.0;
        for (int64_t i = 0; i < width; ++i) square += static_cast<double>(x[i]) * x[i];
        const float scale = 1.0f / std::max(static_cast<float>(std::sqrt(square)), kShortest);
        for (int64_t i = 0; i < width; ++i) unit[i] = x[i] * scale;
        if (inverse != nullptr) inverse[row] = scale;
    }
}

}  // namespace

void pack_keys(const Bank& bank, int64_t chunk, int64_t chunks, int64_t first, int64_t keys, float* panels) {
    const int64_t between_panels = chunks * bank.dim * panel_width();
    with_type(bank, [&](auto* typed) {
        for (int64_t c = 0; c < chunks; ++c) {
            const auto* from = typed + (chunk + c) * bank.stride[0] + first * bank.stride[1];
            float* to = panels + c * bank.dim * panel_width();
            if (bank.stride[1] < bank.stride[2]) {
                pack_columns(from, bank.stride[1], bank.stride[2], bank.dim, keys, to, between_panels);
            } else {
                pack_rows(from, bank.stride[1], bank.stride[2], bank.dim, keys, to, between_panels);
            }
        }
    });
}

IKEM_MULTIVERSION void turn_keys(const float* panels, int64_t stride, int64_t dim, int64_t keys,
                                 float* turned) {
    const int64_t width = panel_width();
    for (int64_t first = 0; first < dim; first += width) {
        const int64_t there = std::min(width, dim - first);
        for (int64_t key = 0; key < keys; ++key, turned += width) {
            const float* from = panels + key / width * stride + first * width + key % width;
            for (int64_t l = 0; l < there; ++l) turned[l] = from[l * width];
            for (int64_t l = there; l < width; ++l) turned[l] = 0.0f;
        }
    }
}

void meet_all(const Bank& bank, int64_t modality, const float* x, int64_t rows, float* panels, float* out,
              int64_t between) {
    const int64_t keys = tile_keys(rows), D = bank.dim;
    for (int64_t key = 0; key < bank.size; key += keys) {
        const int64_t n = std::min(keys, bank.size - key);
        pack_keys(bank, modality, 1, key, n, panels);
        product(x, D, rows, panels, D * panel_width(), D, n, out + key, between, false);
    }
}

void read_key(const Bank& bank, int64_t key, float* row) {
    with_type(bank, [&](auto* typed) {
        for (int64_t p = 0; p < bank.modalities; ++p) {
            for (int64_t d = 0; d < bank.dim; ++d) {
                *row++ = widened(typed[p * bank.stride[0] + key * bank.stride[1] + d * bank.stride[2]]);
            }
        }
    });
}

double dot(const float* a, const float* b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

void through_normalization(float* gradient, const float* unit, float inverse, int64_t n) {
    const auto along = static_cast<float>(dot(gradient, unit, n));
    for (int64_t i = 0; i < n; ++i) gradient[i] = (gradient[i] - along * unit[i]) * inverse;
}

Unit::Unit(const Bank& bank, const Features& f, double scale)
    : clips(f.clips),
      chunks(f.chunks),
      dim(bank.dim),
      width(f.chunks * bank.dim),
      x(f.features * f.clips * width),
      inverse(f.features * f.clips),
      y(bank.modalities * f.clips * dim),
      scaled(x.size()) {
    normalize(f.x, f.features * clips, width, x.data(), inverse.data());
    normalize(f.y, bank.modalities * clips, dim, y.data(), nullptr);
    const auto factor = static_cast<float>(scale);
    for (size_t i = 0; i < x.size(); ++i) scaled[i] = x[i] * factor;
}

double Unit::positive(int64_t feature, int64_t clip) const {
    const float* row = x.data() + (feature * clips + clip) * width;
    double sum = 0.0;
    for (int64_t c = 0; c < chunks; ++c) sum += dot(row + c * dim, key(feature, clip, c), dim);
    return sum;
}

}  // namespace ikem
