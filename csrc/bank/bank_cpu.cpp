#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "bank/bank.h"
#include "bank/products.h"
#include "bank/rows.h"

namespace ikem {
namespace {

const double kLog2e = std::log2(std::exp(1.0)), kLn2 = std::log(2.0);
constexpr float kShortest = 1e-12f;  // as torch.nn.functional.normalize

// The bank is cut into parts of so many keys at least, and so many parts at most; a block has so many rows.
constexpr int64_t kPartKeys = 1024, kAttentionParts = 8, kRelationParts = 16;
constexpr int64_t kAttentionRows = 1024, kClips = 128;
// Similarities of one tile: with the keys beside them they stay in the second- and third-level cache.
constexpr int64_t kTileElements = 1 << 18, kTileKeys = 512;

using Buffer = std::unique_ptr<float[]>;

Buffer buffer(int64_t size) { return Buffer(new float[size]); }

// body(begin, end) over items, each of which is worth a thread, or `grain` together.
template <typename Body>
void in_parallel(int64_t items, int64_t grain, const Body& body) {
    torch::stable::parallel_for(0, items, grain, body);
}

// The parts of a bank that are worked on side by side, whatever the number of threads.
struct Parts {
    int64_t count, keys, size;

    Parts(int64_t size, int64_t most) : size(size) {
        count = std::clamp<int64_t>(size / kPartKeys, 1, most);
        keys = (size + count - 1) / count;
    }
    int64_t begin(int64_t part) const { return std::min(part * keys, size); }
    int64_t end(int64_t part) const { return std::min((part + 1) * keys, size); }
};

// How many parts a search for the topk nearest goes in: few where each would have to keep much of what it
// sees.
int64_t parts_for(int64_t topk, int64_t size) {
    return std::clamp<int64_t>(size / (32 * topk), 1, kRelationParts);
}

// Keys in a tile that goes with so many rows, a whole number of panels.
int64_t tile_keys(int64_t rows) {
    const int64_t keys = std::clamp<int64_t>(kTileElements / rows, 128, kTileKeys);
    return round_up(keys, panel_width());
}

float widened(float v) { return v; }
float widened(torch::headeronly::Half v) { return static_cast<float>(v); }
float widened(torch::headeronly::BFloat16 v) { return static_cast<float>(v); }

// `keys` keys from `first` on, of `chunks` modalities from `chunk` on side by side, in panels (chunks · D,
// width): what `product` multiplies rows of features with. Beyond the last key zeros.
template <typename T>
void pack_keys(const Bank& bank, int64_t chunk, int64_t chunks, int64_t first, int64_t keys, float* panels) {
    const int64_t width = panel_width(), D = bank.dim;
    const int64_t between_keys = bank.stride[1], between_numbers = bank.stride[2];
    for (int64_t key = 0; key < keys; key += width) {
        const int64_t there = std::min(width, keys - key);
        for (int64_t c = chunk; c < chunk + chunks; ++c, panels += D * width) {
            const T* from =
                static_cast<const T*>(bank.keys) + c * bank.stride[0] + (first + key) * between_keys;
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

void pack_keys(const Bank& bank, int64_t chunk, int64_t chunks, int64_t first, int64_t keys, float* panels) {
    if (bank.type == ScalarType::Float) return pack_keys<float>(bank, chunk, chunks, first, keys, panels);
    if (bank.type == ScalarType::Half) {
        return pack_keys<torch::headeronly::Half>(bank, chunk, chunks, first, keys, panels);
    }
    pack_keys<torch::headeronly::BFloat16>(bank, chunk, chunks, first, keys, panels);
}

// The same keys turned round, one modality of them: in panels (keys, width) of its numbers, what `product`
// multiplies weights with. `panels` as pack_keys left them, from this modality's first on, `stride` apart.
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

double dot(const float* a, const float* b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

// gradient (n,) in a row of unit length → in the row it was made of.
void through_normalization(float* gradient, const float* unit, float inverse, int64_t n) {
    const auto along = static_cast<float>(dot(gradient, unit, n));
    for (int64_t i = 0; i < n; ++i) gradient[i] = (gradient[i] - along * unit[i]) * inverse;
}

// Features and keys of unit length, and how the two meet.
struct Unit {
    int64_t clips, chunks, dim, width;  // width: of a row of x
    std::vector<float> x, inverse, y, scaled;

    Unit(const Bank& bank, const Features& f, double scale)
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

    // The key that a chunk of a feature's row meets.
    const float* key(int64_t feature, int64_t clip, int64_t chunk) const {
        return y.data() + ((chunks > 1 ? chunk : feature) * clips + clip) * dim;
    }

    // x · key, without temperature and √chunks.
    double positive(int64_t feature, int64_t clip) const {
        const float* row = x.data() + (feature * clips + clip) * width;
        double sum = 0.0;
        for (int64_t c = 0; c < chunks; ++c) sum += dot(row + c * dim, key(feature, clip, c), dim);
        return sum;
    }
};

// ---- rows of tiles -------------------------------------------------------------------------------------

IKEM_MULTIVERSION float largest(const float* x, int64_t n) {
    float lanes[kLanes];
    for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
    over_lanes(n, [&](int64_t i, int64_t l) { lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l]; });
    return largest_of(lanes);
}

// x := 2^(x − maximum); their sum.
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

// weights := factor · 2^(scale · x − offset).
IKEM_MULTIVERSION void own_weights(const float* x, int64_t n, float scale, float offset, float factor,
                                   float* weights) {
    over_lanes(n, [&](int64_t i, int64_t) { weights[i] = factor * power_of_two(x[i] * scale - offset); });
}

// e = factor · 2^(x·y − offset): weights_x += e·y, and where given weights_y += e·x.
template <bool kBoth>
IKEM_HD void add_pair_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                              float* weights_x, float* weights_y) {
    over_lanes(n, [&](int64_t i, int64_t) {
        const float e = factor * power_of_two(x[i] * y[i] - offset);
        weights_x[i] += e * y[i];
        if (kBoth) weights_y[i] += e * x[i];
    });
}

IKEM_MULTIVERSION void pair_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                                    float* weights_x, float* weights_y) {
    add_pair_weights<true>(x, y, n, offset, factor, weights_x, weights_y);
}

IKEM_MULTIVERSION void anchor_weights(const float* x, const float* y, int64_t n, float offset, float factor,
                                      float* weights_x) {
    add_pair_weights<false>(x, y, n, offset, factor, weights_x, nullptr);
}

IKEM_MULTIVERSION void scale_row(float* x, int64_t n, float factor) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace

// ---- InfoNCE: attention whose first key is the positive
// -----------------------------------------------------
//
// The gradient in a row is the attention's output, with values = keys, less the positive key. It accumulates
// in the same pass: one product more, where making the similarities again would be two.

namespace {

struct AttentionPass {
    const Bank& bank;
    const Unit& unit;
    bool with_output;
    int64_t problems, rows;  // rows that share a bank: of one modality, or of all
    Parts parts;
    int64_t padded;  // a modality's numbers, up to a whole number of panels

    // (parts, problems · rows): what is left of each row's pass over each part.
    std::vector<LogSumExp> sums;
    Buffer output;  // (parts, problems · rows, chunks · padded): Σ 2^(exponent − maximum) · key

    AttentionPass(const Bank& bank, const Features& f, const Unit& unit, bool with_output)
        : bank(bank),
          unit(unit),
          with_output(with_output),
          problems(f.chunks > 1 ? 1 : f.features),
          rows(f.features * f.clips / problems),
          parts(bank.size, kAttentionParts),
          padded(round_up(bank.dim, panel_width())),
          sums(parts.count * problems * rows) {
        if (with_output) output = buffer(static_cast<int64_t>(sums.size()) * output_width());
    }

    int64_t output_width() const { return unit.chunks * padded; }

    void run() {
        const int64_t blocks = (rows + kAttentionRows - 1) / kAttentionRows;
        in_parallel(parts.count * problems * blocks, 1, [&](int64_t begin, int64_t end) {
            const int64_t most = std::min(rows, kAttentionRows), keys = tile_keys(most);
            const Buffer panels = buffer(unit.width * keys), scores = buffer(most * keys);
            const Buffer turned = buffer(with_output ? padded * keys : 0);
            for (int64_t item = begin; item < end; ++item) {
                const int64_t first = item % blocks * kAttentionRows;
                block(item / blocks / problems, item / blocks % problems, first,
                      std::min(kAttentionRows, rows - first), keys, panels.get(), scores.get(), turned.get());
            }
        });
    }

    void block(int64_t part, int64_t problem, int64_t first, int64_t count, int64_t keys, float* panels,
               float* scores, float* turned) {
        const float* x = unit.scaled.data() + (problem * rows + first) * unit.width;
        LogSumExp* sum = sums.data() + (part * problems + problem) * rows + first;
        float* out = output.get() + ((part * problems + problem) * rows + first) * output_width();
        const int64_t stride = unit.width * panel_width();
        if (with_output) std::fill_n(out, count * output_width(), 0.0f);
        for (int64_t key = parts.begin(part); key < parts.end(part); key += keys) {
            const int64_t n = std::min(keys, parts.end(part) - key);
            pack_keys(bank, problem, unit.chunks, key, n, panels);
            product(x, unit.width, count, panels, stride, unit.width, n, scores, keys, false);
            for (int64_t row = 0; row < count; ++row) {
                float* exponents = scores + row * keys;
                const float before = sum[row].maximum, here = largest(exponents, n);
                const float maximum = std::max(before, here);
                if (!with_output) {
                    sum[row].add(maximum, sum_of_exponentials(exponents, n, 1.0f, maximum));
                    continue;
                }
                sum[row].add(maximum, exponentials(exponents, n, maximum));
                if (maximum > before)
                    scale_row(out + row * output_width(), output_width(), std::exp2(before - maximum));
            }
            for (int64_t c = 0; with_output && c < unit.chunks; ++c) {
                turn_keys(panels + c * bank.dim * panel_width(), stride, bank.dim, n, turned);
                product(scores, keys, count, turned, n * panel_width(), n, padded, out + c * padded,
                        output_width(), true);
            }
        }
    }
};

}  // namespace

void attention(const Bank& bank, const Features& f, double temperature, float* loss, float* direction) {
    const double scale = kLog2e / temperature / std::sqrt(static_cast<double>(f.chunks));
    const Unit unit(bank, f, scale);
    AttentionPass pass(bank, f, unit, direction != nullptr);
    pass.run();
    const int64_t all = f.features * f.clips;
    in_parallel(all, 16, [&](int64_t begin, int64_t end) {
        std::vector<double> sum(unit.width);
        for (int64_t row = begin; row < end; ++row) {
            const int64_t feature = row / f.clips, clip = row % f.clips;
            const double positive = unit.positive(feature, clip) * scale;
            LogSumExp others;
            for (int64_t part = 0; part < pass.parts.count; ++part) {
                const LogSumExp& partial = pass.sums[part * all + row];
                others.add(partial.maximum, partial.total);
            }
            // log₂(1 + Σ 2^(others − positive)), its sum rounded to float as the published code rounds it,
            // which shows where a loss is near 0.
            const double above = others.result() - positive;
            const double excess = above > 0 ? above + std::log2(1.0 + std::exp2(-above))
                                            : std::log2(double{static_cast<float>(1.0 + std::exp2(above))});
            loss[row] = static_cast<float>(excess * kLn2);
            if (direction == nullptr) continue;

            float* gradient = direction + row * unit.width;
            const double of_positive = std::exp2(-excess) - 1.0;
            for (int64_t c = 0; c < unit.chunks; ++c) {
                const float* key = unit.key(feature, clip, c);
                for (int64_t d = 0; d < unit.dim; ++d) sum[c * unit.dim + d] = of_positive * key[d];
                for (int64_t part = 0; part < pass.parts.count; ++part) {
                    const double weight = std::exp2(pass.sums[part * all + row].maximum - positive - excess);
                    const float* from =
                        pass.output.get() + (part * all + row) * pass.output_width() + c * pass.padded;
                    for (int64_t d = 0; d < unit.dim; ++d) sum[c * unit.dim + d] += weight * from[d];
                }
            }
            for (int64_t i = 0; i < unit.width; ++i) gradient[i] = static_cast<float>(sum[i] * scale * kLn2);
            through_normalization(gradient, unit.x.data() + row * unit.width, unit.inverse[row], unit.width);
        }
    });
}

// ---- Relations: sums over the bank of single similarities and of products of two
// ---------------------------
//
// With r = root · s, root = √(log₂e/τ), the exponent of c_ab/τ is r_a · r_b and that of s_a/τ is root · r_a.

namespace {

struct RelationsPass {
    const Relations& r;
    const double root;
    const Unit features;
    const Unit anchors_alone;  // the keys as anchors; empty where the features are their own
    const Parts parts;
    const int64_t A, B, N, stride;  // stride: between panels of all modalities side by side

    RelationsPass(const Relations& r, int64_t most_parts)
        : r(r),
          root(std::sqrt(kLog2e / r.temperature)),
          features(r.bank, r.f, root / std::sqrt(static_cast<double>(r.f.chunks))),
          anchors_alone(r.bank, {r.f.y, r.f.y, r.anchored ? r.bank.modalities : 0, r.f.clips, 1}, root),
          parts(r.bank.size, most_parts),
          A(r.f.features),
          B(r.anchors()),
          N(r.f.clips),
          stride(r.bank.modalities * r.bank.dim * panel_width()) {}

    const Unit& anchors() const { return r.anchored ? anchors_alone : features; }
    int64_t blocks() const { return (N + kClips - 1) / kClips; }
    int64_t block_clips() const { return std::min(N, kClips); }
    int64_t keys() const { return tile_keys(A * block_clips()); }

    // How many anchors a feature is paired with, and the first of them: of two features that are each other's
    // anchors, one takes care of both.
    int64_t first_anchor(int64_t a) const { return !r.context ? B : r.anchored ? 0 : a + 1; }

    // r_a of clips first … first + clips − 1 with a tile of keys: (A, clips, keys), and of the anchors
    // likewise.
    void similarities(const float* panels, int64_t first, int64_t clips, int64_t n, int64_t keys, float* own,
                      float* guides) const {
        meet(features, panels, A, first, clips, n, keys, own);
        if (r.anchored) meet(anchors_alone, panels, B, first, clips, n, keys, guides);
    }

    void meet(const Unit& unit, const float* panels, int64_t count, int64_t first, int64_t clips, int64_t n,
              int64_t keys, float* out) const {
        for (int64_t a = 0; a < count; ++a, out += clips * keys) {
            const int64_t chunk = unit.chunks > 1 ? 0 : a;
            product(unit.scaled.data() + (a * N + first) * unit.width, unit.width, clips,
                    panels + chunk * r.bank.dim * panel_width(), stride, unit.width, n, out, keys, false);
        }
    }

    // body(part, first clip, clips, tile) for every block of clips and part of the bank, each tile in turn.
    struct Tile {
        int64_t key, n, keys;
        const float *panels, *own, *guides;
    };

    template <typename Start, typename Body>
    void over_tiles(const Start& start, const Body& body) const {
        in_parallel(parts.count * blocks(), 1, [&](int64_t begin, int64_t end) {
            const int64_t keys = this->keys(), clips = block_clips();
            const Buffer panels = buffer(r.bank.modalities * r.bank.dim * keys),
                         own = buffer(A * clips * keys);
            const Buffer guides = buffer(r.anchored ? B * clips * keys : 0);
            for (int64_t item = begin; item < end; ++item) {
                const int64_t part = item / blocks(), first = item % blocks() * kClips;
                const int64_t count = std::min(kClips, N - first);
                auto state = start(part, first, count);
                for (int64_t key = parts.begin(part); key < parts.end(part); key += keys) {
                    const int64_t n = std::min(keys, parts.end(part) - key);
                    pack_keys(r.bank, 0, r.bank.modalities, key, n, panels.get());
                    similarities(panels.get(), first, count, n, keys, own.get(), guides.get());
                    body(part, first, count,
                         Tile{key, n, keys, panels.get(), own.get(), r.anchored ? guides.get() : own.get()},
                         state);
                }
            }
        });
    }
};

struct Nothing {};

// The keys (P, D) of one row of the bank.
void read_key(const Bank& bank, int64_t key, std::vector<float>& row) {
    const auto read = [&](auto* typed) {
        for (int64_t p = 0; p < bank.modalities; ++p) {
            for (int64_t d = 0; d < bank.dim; ++d) {
                row[p * bank.dim + d] =
                    widened(typed[p * bank.stride[0] + key * bank.stride[1] + d * bank.stride[2]]);
            }
        }
    };
    if (bank.type == ScalarType::Float) return read(static_cast<const float*>(bank.keys));
    if (bank.type == ScalarType::Half) return read(static_cast<const torch::headeronly::Half*>(bank.keys));
    read(static_cast<const torch::headeronly::BFloat16*>(bank.keys));
}

}  // namespace

void relations(const Relations& r, float* loss, float* partition, float* scores, int64_t* mined,
               float* values) {
    const RelationsPass pass(r, parts_for(r.topk, r.bank.size));
    const int64_t A = pass.A, B = pass.B, N = pass.N, parts = pass.parts.count;
    const auto root = static_cast<float>(pass.root);
    std::vector<LogSumExp> own(parts * A * N), pairs(r.context ? parts * A * B * N : 0);
    std::vector<Nearest> nearest(parts * B * N, Nearest(r.topk));
    pass.over_tiles(
        [](int64_t, int64_t, int64_t) { return Nothing(); },
        [&](int64_t part, int64_t first, int64_t clips, const RelationsPass::Tile& tile, Nothing&) {
            for (int64_t clip = 0; clip < clips; ++clip) {
                const auto row = [&](const float* of, int64_t i) {
                    return of + (i * clips + clip) * tile.keys;
                };
                for (int64_t b = 0; b < B; ++b) {
                    const float* guide = row(tile.guides, b);
                    nearest[(part * B + b) * N + first + clip].add(guide, tile.n, largest(guide, tile.n),
                                                                   tile.key);
                }
                for (int64_t a = 0; a < A; ++a) {
                    const float* x = row(tile.own, a);
                    LogSumExp& sum = own[(part * A + a) * N + first + clip];
                    const float maximum = std::max(sum.maximum, root * largest(x, tile.n));
                    sum.add(maximum, sum_of_exponentials(x, tile.n, root, maximum));
                    for (int64_t b = pass.first_anchor(a); b < B; ++b) {
                        const float* guide = row(tile.guides, b);
                        LogSumExp& pair = pairs[((part * A + a) * B + b) * N + first + clip];
                        const float most = std::max(pair.maximum, largest_product(x, guide, tile.n));
                        pair.add(most, sum_of_product_exponentials(x, guide, tile.n, most));
                    }
                }
            }
        });

    const auto over_parts = [&](const std::vector<LogSumExp>& sums, int64_t count, int64_t at) {
        LogSumExp sum;
        for (int64_t part = 0; part < parts; ++part) {
            const LogSumExp& partial = sums[part * count + at];
            sum.add(partial.maximum, partial.total);
        }
        return sum;
    };
    const Bank& bank = r.bank;
    const double to_unit = 1.0 / std::sqrt(static_cast<double>(r.f.chunks));
    const double positives = 1.0 + (r.context ? 2 : 1) * r.topk;
    in_parallel(N, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> key(bank.modalities * bank.dim);
        std::vector<double> pull(A * B);
        for (int64_t clip = begin; clip < end; ++clip) {
            std::fill(pull.begin(), pull.end(), 0.0);
            for (int64_t b = 0; b < B; ++b) {
                Nearest& nearby = nearest[b * N + clip];
                for (int64_t part = 1; part < parts; ++part) nearby.add(nearest[(part * B + b) * N + clip]);
                const std::vector<Neighbor>& found = nearby.sorted();
                for (int64_t t = 0; t < r.topk; ++t) {
                    const int64_t at = (b * N + clip) * r.topk + t;
                    // Similarities that are NaN are nobody's neighbors, and the loss is NaN for their sake.
                    const bool there = t < static_cast<int64_t>(found.size());
                    mined[at] = there ? found[t].index : 0;
                    values[at] = there ? static_cast<float>(found[t].value / pass.root)
                                       : std::numeric_limits<float>::quiet_NaN();
                    read_key(bank, mined[at], key);
                    for (int64_t a = 0; a < A; ++a) {
                        const bool itself = !r.anchored && a == b;
                        const float* x = pass.features.x.data() + (a * N + clip) * pass.features.width;
                        const float* met = key.data() + (r.f.chunks > 1 ? 0 : a * bank.dim);
                        const double score = itself ? 0.0 : dot(x, met, pass.features.width) * to_unit;
                        scores[((a * B + b) * N + clip) * r.topk + t] = static_cast<float>(score);
                        pull[a * B + b] += score * (r.context ? 1.0 + values[at] : 1.0);
                    }
                }
            }
            for (int64_t a = 0; a < A; ++a) {
                const double positive = pass.features.positive(a, clip) * to_unit;
                const LogSumExp single = over_parts(own, A * N, a * N + clip);
                double sum = 0.0;
                for (int64_t b = 0; b < B; ++b) {
                    float& z = partition[(a * B + b) * N + clip];
                    z = 0.0f;
                    if (!r.anchored && a == b) continue;
                    LogSumExp all = single;
                    all.add(static_cast<float>(positive * kLog2e / r.temperature), 1.0);
                    if (r.context) {
                        const bool swapped = !r.anchored && b < a;
                        const int64_t pair = swapped ? b * B + a : a * B + b;
                        const LogSumExp both = over_parts(pairs, A * B * N, pair * N + clip);
                        all.add(both.maximum, both.total);
                    }
                    z = static_cast<float>(all.result());
                    sum += all.result() * kLn2 - (positive + pull[a * B + b]) / r.temperature / positives;
                }
                loss[a * N + clip] = static_cast<float>(sum / (r.anchored ? B : B - 1));
            }
        }
    });
}

void relations_backward(const Relations& r, const float* grad, const float* partition, const float* scores,
                        const int64_t* mined, const float* values, float* gradient) {
    const RelationsPass pass(r, kRelationParts / 2);
    const int64_t A = pass.A, B = pass.B, N = pass.N, parts = pass.parts.count;
    const Bank& bank = r.bank;
    const auto root = static_cast<float>(pass.root);
    const int64_t chunks = r.f.chunks, padded = round_up(bank.dim, panel_width()), width = chunks * padded;
    const double terms = r.anchored ? B : B - 1;
    const auto z = [&](int64_t a, int64_t b, int64_t clip) { return partition[(a * B + b) * N + clip]; };
    const auto h = [&](int64_t a, int64_t clip) { return grad[a * N + clip] / terms; };
    const auto paired = [&](int64_t a, int64_t b) { return r.anchored || a != b; };
    Buffer output = buffer(parts * A * N * width);  // (parts, A, N, width): weights · keys

    struct Work {
        Buffer weights, turned;
    };
    pass.over_tiles(
        [&](int64_t part, int64_t first, int64_t clips) {
            for (int64_t a = 0; a < A; ++a) {
                std::fill_n(output.get() + ((part * A + a) * N + first) * width, clips * width, 0.0f);
            }
            return Work{buffer(A * clips * pass.keys()), buffer(padded * pass.keys())};
        },
        [&](int64_t part, int64_t first, int64_t clips, const RelationsPass::Tile& tile, Work& work) {
            const auto row = [&](auto* of, int64_t i, int64_t clip) {
                return of + (i * clips + clip) * tile.keys;
            };
            for (int64_t clip = 0; clip < clips; ++clip) {
                const int64_t n = first + clip;
                for (int64_t a = 0; a < A; ++a) {
                    float least = std::numeric_limits<float>::infinity();
                    for (int64_t b = 0; b < B; ++b)
                        least = paired(a, b) ? std::min(least, z(a, b, n)) : least;
                    double factor = 0.0;
                    for (int64_t b = 0; b < B; ++b) {
                        if (paired(a, b)) factor += h(a, n) * std::exp2(least - z(a, b, n));
                    }
                    own_weights(row(tile.own, a, clip), tile.n, root, least,
                                static_cast<float>(factor * root), row(work.weights.get(), a, clip));
                }
                for (int64_t a = 0; a < A; ++a) {
                    for (int64_t b = pass.first_anchor(a); b < B; ++b) {
                        const float *x = row(tile.own, a, clip), *guide = row(tile.guides, b, clip);
                        float* weights = row(work.weights.get(), a, clip);
                        if (r.anchored) {
                            anchor_weights(x, guide, tile.n, z(a, b, n), static_cast<float>(h(a, n)),
                                           weights);
                            continue;
                        }
                        const float least = std::min(z(a, b, n), z(b, a, n));
                        const double factor =
                            h(a, n) * std::exp2(least - z(a, b, n)) + h(b, n) * std::exp2(least - z(b, a, n));
                        pair_weights(x, guide, tile.n, least, static_cast<float>(factor), weights,
                                     row(work.weights.get(), b, clip));
                    }
                }
            }
            for (int64_t c = 0; c < bank.modalities; ++c) {
                turn_keys(tile.panels + c * bank.dim * panel_width(), pass.stride, bank.dim, tile.n,
                          work.turned.get());
                // A modality's keys are met by its own feature, or by a chunk of every feature.
                for (int64_t a = chunks > 1 ? 0 : c; a < (chunks > 1 ? A : c + 1); ++a) {
                    product(
                        work.weights.get() + a * clips * tile.keys, tile.keys, clips, work.turned.get(),
                        tile.n * panel_width(), tile.n, padded,
                        output.get() + ((part * A + a) * N + first) * width + (chunks > 1 ? c : 0) * padded,
                        width, true);
                }
            }
        });

    const double to_unit = 1.0 / std::sqrt(static_cast<double>(chunks));
    const double share = 1.0 / (1.0 + (r.context ? 2 : 1) * r.topk);
    in_parallel(N, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> key(bank.modalities * bank.dim);
        std::vector<double> sums(A * chunks * bank.dim);
        for (int64_t clip = begin; clip < end; ++clip) {
            for (int64_t a = 0; a < A; ++a) {
                double* sum = sums.data() + a * chunks * bank.dim;
                double of_positive = 0.0;
                const double positive = pass.features.positive(a, clip) * to_unit * kLog2e / r.temperature;
                for (int64_t b = 0; b < B; ++b) {
                    if (paired(a, b))
                        of_positive += h(a, clip) * (std::exp2(positive - z(a, b, clip)) - share);
                }
                for (int64_t c = 0; c < chunks; ++c) {
                    const float* met = pass.features.key(a, clip, c);
                    for (int64_t d = 0; d < bank.dim; ++d) {
                        double weighted = 0.0;
                        for (int64_t part = 0; part < parts; ++part) {
                            weighted += output[((part * A + a) * N + clip) * width + c * padded + d];
                        }
                        sum[c * bank.dim + d] = weighted / root + of_positive * met[d];
                    }
                }
            }
            for (int64_t b = 0; b < B; ++b) {
                for (int64_t t = 0; t < r.topk; ++t) {
                    const int64_t at = (b * N + clip) * r.topk + t;
                    read_key(bank, mined[at], key);
                    // Where the anchor is a feature too, c_ab at its nearest keys pulls it as well.
                    double back = 0.0;
                    for (int64_t a = 0; a < A && r.context && !r.anchored; ++a) {
                        if (a != b) back += h(a, clip) * scores[((a * B + b) * N + clip) * r.topk + t];
                    }
                    for (int64_t a = 0; a < A; ++a) {
                        const double pull =
                            paired(a, b) ? h(a, clip) * (r.context ? 1.0 + values[at] : 1.0) : back;
                        double* sum = sums.data() + a * chunks * bank.dim;
                        const float* met = key.data() + (chunks > 1 ? 0 : a * bank.dim);
                        for (int64_t i = 0; i < chunks * bank.dim; ++i) sum[i] -= share * pull * met[i];
                    }
                }
            }
            for (int64_t a = 0; a < A; ++a) {
                const int64_t n = chunks * bank.dim, at = a * N + clip;
                for (int64_t i = 0; i < n; ++i) {
                    gradient[at * n + i] = static_cast<float>(sums[a * n + i] * to_unit / r.temperature);
                }
                through_normalization(gradient + at * n, pass.features.x.data() + at * n,
                                      pass.features.inverse[at], n);
            }
        }
    });
}

void nearest(const Bank& bank, const float* q, int64_t clips, int64_t topk, float* values, int64_t* indices) {
    const Unit unit(bank, {q, q, bank.modalities, clips, 1}, 1.0);
    const Parts parts(bank.size, parts_for(topk, bank.size));
    const int64_t blocks = (clips + kClips - 1) / kClips, P = bank.modalities;
    std::vector<Nearest> found(parts.count * P * clips, Nearest(topk));
    in_parallel(parts.count * P * blocks, 1, [&](int64_t begin, int64_t end) {
        const int64_t keys = tile_keys(std::min(clips, kClips));
        const Buffer panels = buffer(bank.dim * keys), s = buffer(std::min(clips, kClips) * keys);
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item / blocks / P, p = item / blocks % P, first = item % blocks * kClips;
            const int64_t count = std::min(kClips, clips - first);
            for (int64_t key = parts.begin(part); key < parts.end(part); key += keys) {
                const int64_t n = std::min(keys, parts.end(part) - key);
                pack_keys(bank, p, 1, key, n, panels.get());
                product(unit.scaled.data() + (p * clips + first) * bank.dim, bank.dim, count, panels.get(),
                        bank.dim * panel_width(), bank.dim, n, s.get(), keys, false);
                for (int64_t row = 0; row < count; ++row) {
                    const float* of_row = s.get() + row * keys;
                    found[(part * P + p) * clips + first + row].add(of_row, n, largest(of_row, n), key);
                }
            }
        }
    });
    in_parallel(P * clips, 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            for (int64_t part = 1; part < parts.count; ++part) found[row].add(found[part * P * clips + row]);
            const std::vector<Neighbor>& sorted = found[row].sorted();
            for (int64_t t = 0; t < topk; ++t) {
                const bool there = t < static_cast<int64_t>(sorted.size());
                values[row * topk + t] = there ? sorted[t].value : std::numeric_limits<float>::quiet_NaN();
                indices[row * topk + t] = there ? sorted[t].index : 0;
            }
        }
    });
}

}  // namespace ikem
