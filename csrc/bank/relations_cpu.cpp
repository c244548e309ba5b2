// The relational losses: sums over the bank of single similarities and of products of two.
//
// With r = root · s, root = √(log₂e/τ), the exponent of c_ab/τ is r_a · r_b and that of s_a/τ is root · r_a.
// The backward pass makes the tiles again: kept, they would be the N×K similarities.
#include <cmath>

#include "bank/rows.h"
#include "bank/tiles.h"

namespace ikem {
namespace {

constexpr int64_t kMostParts = 16;

// A tile of one block of clips: r of features (A, clips, keys) and of anchors (B, clips, keys), the first n
// of the keys being there.
struct Tile {
    int64_t part, first, clips;  // of the bank; of the clips
    int64_t key, n, keys;
    const float *panels, *own, *guides;

    template <typename T>
    T* row(T* of, int64_t i, int64_t clip) const {
        return of + (i * clips + clip) * keys;
    }
    const float* own_row(int64_t a, int64_t clip) const { return row(own, a, clip); }
    const float* guide(int64_t b, int64_t clip) const { return row(guides, b, clip); }
};

// Features, anchors and the bank, and the tiles that they meet in.
struct RelationsPass {
    const Relations& r;
    const double root, to_unit, terms;
    const Unit features;
    const Unit anchors_alone;  // the keys as anchors; empty where the features are their own
    const Parts parts;
    const int64_t A, B, N, stride;  // stride: between panels of all modalities side by side

    RelationsPass(const Relations& r, int64_t most_parts)
        : r(r),
          root(std::sqrt(kLog2e / r.temperature)),
          to_unit(1.0 / std::sqrt(static_cast<double>(r.f.chunks))),
          terms(static_cast<double>(r.anchored ? r.anchors() : r.anchors() - 1)),
          features(r.bank, r.f, root * to_unit),
          anchors_alone(r.bank, {r.f.y, r.f.y, r.anchored ? r.bank.modalities : 0, r.f.clips, 1}, root),
          parts(r.bank.size, most_parts),
          A(r.f.features),
          B(r.anchors()),
          N(r.f.clips),
          stride(r.bank.modalities * r.bank.dim * panel_width()) {}

    int64_t blocks() const { return (N + kClips - 1) / kClips; }
    int64_t block_clips() const { return std::min(N, kClips); }
    int64_t keys() const { return tile_keys(A * block_clips()); }

    // The first of the anchors that a feature takes care of; of two features that are each other's anchors,
    // one takes care of both. Without context of none.
    int64_t first_anchor(int64_t a) const { return !r.context ? B : r.anchored ? 0 : a + 1; }

    bool paired(int64_t a, int64_t b) const { return r.anchored || a != b; }

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

    // body(tile, start(part, first clip, clips)) for every block of clips and part of the bank, each tile in
    // turn.
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
                    const float* anchors = r.anchored ? guides.get() : own.get();
                    body(Tile{part, first, count, key, n, keys, panels.get(), own.get(), anchors}, state);
                }
            }
        });
    }
};

// The forward pass: what a clip's losses are made of, for each part of the bank.
struct Forward {
    const Relations& r;
    const RelationsPass pass;
    const int64_t A, B, N, parts;
    std::vector<LogSumExp> own, pairs;  // (parts, A, N) and (parts, A, B, N)
    std::vector<Nearest> nearest;       // (parts, B, N)

    explicit Forward(const Relations& r)
        : r(r),
          pass(r, parts_for(r.topk, r.bank.size)),
          A(pass.A),
          B(pass.B),
          N(pass.N),
          parts(pass.parts.count),
          own(parts * A * N),
          pairs(r.context ? parts * A * B * N : 0),
          nearest(parts * B * N, Nearest(r.topk)) {}

    void add(const Tile& tile) {
        const auto root = static_cast<float>(pass.root);
        for (int64_t clip = 0; clip < tile.clips; ++clip) {
            const int64_t n = tile.first + clip;
            for (int64_t b = 0; b < B; ++b) {
                const float* guide = tile.guide(b, clip);
                nearest[(tile.part * B + b) * N + n].add(guide, tile.n, largest(guide, tile.n), tile.key);
            }
            for (int64_t a = 0; a < A; ++a) {
                const float* x = tile.own_row(a, clip);
                LogSumExp& sum = own[(tile.part * A + a) * N + n];
                const float maximum = std::max(sum.maximum, root * largest(x, tile.n));
                sum.add(maximum, sum_of_exponentials(x, tile.n, root, maximum));
                for (int64_t b = pass.first_anchor(a); b < B; ++b) {
                    const float* guide = tile.guide(b, clip);
                    LogSumExp& pair = pairs[((tile.part * A + a) * B + b) * N + n];
                    const float most = std::max(pair.maximum, largest_product(x, guide, tile.n));
                    pair.add(most, sum_of_product_exponentials(x, guide, tile.n, most));
                }
            }
        }
    }

    // The parts of the bank put together, in their order.
    LogSumExp over_parts(const std::vector<LogSumExp>& sums, int64_t count, int64_t at) const {
        LogSumExp sum;
        for (int64_t part = 0; part < parts; ++part) {
            const LogSumExp& partial = sums[part * count + at];
            sum.add(partial.maximum, partial.total);
        }
        return sum;
    }

    // Of one clip: the anchors' nearest keys, every feature's similarity there, and what pulls it: pull (A,
    // B).
    void find_mined(int64_t clip, float* scores, int64_t* mined, float* values, float* key, double* pull) {
        const Unit& unit = pass.features;
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
                read_key(r.bank, mined[at], key);
                for (int64_t a = 0; a < A; ++a) {
                    const float* met = key + (r.f.chunks > 1 ? 0 : a * r.bank.dim);
                    const float* x = unit.x.data() + (a * N + clip) * unit.width;
                    const double score = pass.paired(a, b) ? dot(x, met, unit.width) * pass.to_unit : 0.0;
                    scores[((a * B + b) * N + clip) * r.topk + t] = static_cast<float>(score);
                    pull[a * B + b] += score * (r.context ? 1.0 + values[at] : 1.0);
                }
            }
        }
    }

    void find_losses(int64_t clip, const double* pull, float* loss, float* partition) const {
        const double positives = 1.0 + (r.context ? 2 : 1) * r.topk;
        for (int64_t a = 0; a < A; ++a) {
            const double positive = pass.features.positive(a, clip) * pass.to_unit;
            const LogSumExp single = over_parts(own, A * N, a * N + clip);
            double sum = 0.0;
            for (int64_t b = 0; b < B; ++b) {
                float& z = partition[(a * B + b) * N + clip];
                z = 0.0f;
                if (!pass.paired(a, b)) continue;
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
            loss[a * N + clip] = static_cast<float>(sum / pass.terms);
        }
    }
};

// The backward pass. With h_a = grad_a / (anchors of a) and Z the log-partitions of the forward pass,
//
//   ∂L/∂s_a = (1/τ) Σ_b [ h_a e^{s_a/τ − Z_ab} + (h_a e^{−Z_ab} + h_b e^{−Z_ba}) e^{c_ab/τ} s_b ],
//
// the term in h_b only where the features are their own anchors; then the positive and the mined keys.
struct Backward {
    const Relations& r;
    const RelationsPass pass;
    const float *grad, *partition;
    const int64_t A, B, N, parts, padded, width;
    Buffer output;  // (parts, A, N, width): weights · keys

    Backward(const Relations& r, const float* grad, const float* partition)
        : r(r),
          pass(r, kMostParts / 2),
          grad(grad),
          partition(partition),
          A(pass.A),
          B(pass.B),
          N(pass.N),
          parts(pass.parts.count),
          padded(round_up(r.bank.dim, panel_width())),
          width(r.f.chunks * padded),
          output(buffer(parts * A * N * width)) {}

    float z(int64_t a, int64_t b, int64_t clip) const { return partition[(a * B + b) * N + clip]; }
    double h(int64_t a, int64_t clip) const { return grad[a * N + clip] / pass.terms; }
    float* output_row(int64_t part, int64_t a, int64_t clip) const {
        return output.get() + ((part * A + a) * N + clip) * width;
    }

    struct Work {
        Buffer weights, turned;  // (A, clips, keys) and (keys, padded)
    };

    Work start(int64_t part, int64_t first, int64_t clips) {
        for (int64_t a = 0; a < A; ++a) std::fill_n(output_row(part, a, first), clips * width, 0.0f);
        return Work{buffer(A * clips * pass.keys()), buffer(padded * pass.keys())};
    }

    // weights (A, clips, keys) := ∂L/∂r of a tile, up to constants.
    void find_weights(const Tile& tile, float* weights) const {
        const auto root = static_cast<float>(pass.root);
        for (int64_t clip = 0; clip < tile.clips; ++clip) {
            const int64_t n = tile.first + clip;
            for (int64_t a = 0; a < A; ++a) {
                float least = std::numeric_limits<float>::infinity();
                for (int64_t b = 0; b < B; ++b) {
                    if (pass.paired(a, b)) least = std::min(least, z(a, b, n));
                }
                double factor = 0.0;
                for (int64_t b = 0; b < B; ++b) {
                    if (pass.paired(a, b)) factor += h(a, n) * std::exp2(least - z(a, b, n));
                }
                own_weights(tile.own_row(a, clip), tile.n, root, least, static_cast<float>(factor * root),
                            tile.row(weights, a, clip));
            }
            for (int64_t a = 0; a < A; ++a) {
                for (int64_t b = pass.first_anchor(a); b < B; ++b) {
                    const float *x = tile.own_row(a, clip), *guide = tile.guide(b, clip);
                    float* own = tile.row(weights, a, clip);
                    if (r.anchored) {
                        anchor_weights(x, guide, tile.n, z(a, b, n), static_cast<float>(h(a, n)), own);
                        continue;
                    }
                    const float least = std::min(z(a, b, n), z(b, a, n));
                    const double factor =
                        h(a, n) * std::exp2(least - z(a, b, n)) + h(b, n) * std::exp2(least - z(b, a, n));
                    pair_weights(x, guide, tile.n, least, static_cast<float>(factor), own,
                                 tile.row(weights, b, clip));
                }
            }
        }
    }

    void add(const Tile& tile, Work& work) {
        find_weights(tile, work.weights.get());
        const int64_t chunks = r.f.chunks, D = r.bank.dim;
        for (int64_t c = 0; c < r.bank.modalities; ++c) {
            turn_keys(tile.panels + c * D * panel_width(), pass.stride, D, tile.n, work.turned.get());
            // A modality's keys are met by its own feature, or by a chunk of every feature.
            for (int64_t a = chunks > 1 ? 0 : c; a < (chunks > 1 ? A : c + 1); ++a) {
                product(tile.row(work.weights.get(), a, 0), tile.keys, tile.clips, work.turned.get(),
                        tile.n * panel_width(), tile.n, padded,
                        output_row(tile.part, a, tile.first) + (chunks > 1 ? c : 0) * padded, width, true);
            }
        }
    }

    // sums (A, chunks · D) := what the tiles and the positive give one clip.
    void sum_parts(int64_t clip, double* sums) const {
        const int64_t D = r.bank.dim;
        const double share = 1.0 / (1.0 + (r.context ? 2 : 1) * r.topk);
        for (int64_t a = 0; a < A; ++a) {
            double of_positive = 0.0;
            const double positive = pass.features.positive(a, clip) * pass.to_unit * kLog2e / r.temperature;
            for (int64_t b = 0; b < B; ++b) {
                if (pass.paired(a, b))
                    of_positive += h(a, clip) * (std::exp2(positive - z(a, b, clip)) - share);
            }
            for (int64_t c = 0; c < r.f.chunks; ++c) {
                const float* met = pass.features.key(a, clip, c);
                for (int64_t d = 0; d < D; ++d) {
                    double weighted = 0.0;
                    for (int64_t part = 0; part < parts; ++part) {
                        weighted += output_row(part, a, clip)[c * padded + d];
                    }
                    *sums++ = weighted / pass.root + of_positive * met[d];
                }
            }
        }
    }

    // sums less what the mined keys give.
    void subtract_mined(int64_t clip, const float* scores, const int64_t* mined, const float* values,
                        float* key, double* sums) const {
        const int64_t n = r.f.chunks * r.bank.dim;
        const double share = 1.0 / (1.0 + (r.context ? 2 : 1) * r.topk);
        for (int64_t b = 0; b < B; ++b) {
            for (int64_t t = 0; t < r.topk; ++t) {
                const int64_t at = (b * N + clip) * r.topk + t;
                read_key(r.bank, mined[at], key);
                // Where the anchor is a feature too, c_ab at its nearest keys pulls it as well.
                double back = 0.0;
                for (int64_t a = 0; a < A && r.context && !r.anchored; ++a) {
                    if (a != b) back += h(a, clip) * scores[((a * B + b) * N + clip) * r.topk + t];
                }
                for (int64_t a = 0; a < A; ++a) {
                    const double own = h(a, clip) * (r.context ? 1.0 + values[at] : 1.0);
                    const double pull = share * (pass.paired(a, b) ? own : back);
                    const float* met = key + (r.f.chunks > 1 ? 0 : a * r.bank.dim);
                    for (int64_t i = 0; i < n; ++i) sums[a * n + i] -= pull * met[i];
                }
            }
        }
    }
};

}  // namespace

void relations(const Relations& r, float* loss, float* partition, float* scores, int64_t* mined,
               float* values) {
    Forward forward(r);
    forward.pass.over_tiles([](int64_t, int64_t, int64_t) { return nullptr; },
                            [&](const Tile& tile, std::nullptr_t&) { forward.add(tile); });
    in_parallel(forward.N, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> key(r.bank.modalities * r.bank.dim);
        std::vector<double> pull(forward.A * forward.B);
        for (int64_t clip = begin; clip < end; ++clip) {
            std::fill(pull.begin(), pull.end(), 0.0);
            forward.find_mined(clip, scores, mined, values, key.data(), pull.data());
            forward.find_losses(clip, pull.data(), loss, partition);
        }
    });
}

void relations_backward(const Relations& r, const float* grad, const float* partition, const float* scores,
                        const int64_t* mined, const float* values, float* gradient) {
    Backward backward(r, grad, partition);
    backward.pass.over_tiles(
        [&](int64_t part, int64_t first, int64_t clips) { return backward.start(part, first, clips); },
        [&](const Tile& tile, Backward::Work& work) { backward.add(tile, work); });
    in_parallel(backward.N, 1, [&](int64_t begin, int64_t end) {
        const RelationsPass& pass = backward.pass;
        const int64_t n = pass.features.width;
        std::vector<float> key(r.bank.modalities * r.bank.dim);
        std::vector<double> sums(backward.A * n);
        for (int64_t clip = begin; clip < end; ++clip) {
            backward.sum_parts(clip, sums.data());
            backward.subtract_mined(clip, scores, mined, values, key.data(), sums.data());
            for (int64_t a = 0; a < backward.A; ++a) {
                const int64_t at = a * backward.N + clip;
                float* row = gradient + at * n;
                for (int64_t i = 0; i < n; ++i) {
                    row[i] = static_cast<float>(sums[a * n + i] * pass.to_unit / r.temperature);
                }
                through_normalization(row, pass.features.x.data() + at * n, pass.features.inverse[at], n);
            }
        }
    });
}

}  // namespace ikem
