#include <cmath>

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

template <typename T>
void pack(const Bank& bank, const T* bank_keys, int64_t chunk, int64_t chunks, int64_t first, int64_t keys,
          float* panels) {
    const int64_t width = panel_width(), D = bank.dim;
    const int64_t between_keys = bank.stride[1], between_numbers = bank.stride[2];
    for (int64_t key = 0; key < keys; key += width) {
        const int64_t there = std::min(width, keys - key);
        for (int64_t c = chunk; c < chunk + chunks; ++c, panels += D * width) {
            const T* from = bank_keys + c * bank.stride[0] + (first + key) * between_keys;
            if (there < width) std::fill_n(panels, D * width, 0.0f);
            if (between_keys < between_numbers) {  // a bank (P,D,K): keys lie side by side
                for (int64_t d = 0; d < D; ++d) {
                    for (int64_t l = 0; l < there; ++l) {
                        panels[d * width + l] = widened(from[d * between_numbers + l * between_keys]);
                    }
                }
            } else {
                for (int64_t l = 0; l < there; ++l, from += between_keys) {
                    for (int64_t d = 0; d < D; ++d)
                        panels[d * width + l] = widened(from[d * between_numbers]);
                }
            }
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
    with_type(bank, [&](auto* typed) { pack(bank, typed, chunk, chunks, first, keys, panels); });
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
