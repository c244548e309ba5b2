// InfoNCE as attention whose first key is the positive.
//
// The gradient in a row is the attention's output, with values = keys, less the positive key. It accumulates
// in the same pass: one product more, where making the similarities again would be two.
#include <cmath>

#include "bank/rows.h"
#include "bank/tiles.h"

namespace ikem {
namespace {

constexpr int64_t kMostParts = 8, kRows = 1024;

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
          parts(bank.size, kMostParts),
          padded(round_up(bank.dim, panel_width())),
          sums(parts.count * problems * rows) {
        if (with_output) output = buffer(static_cast<int64_t>(sums.size()) * output_width());
    }

    int64_t output_width() const { return unit.chunks * padded; }

    void run() {
        const int64_t blocks = (rows + kRows - 1) / kRows;
        in_parallel(parts.count * problems * blocks, 1, [&](int64_t begin, int64_t end) {
            const int64_t most = std::min(rows, kRows), keys = tile_keys(most);
            const Buffer panels = buffer(unit.width * keys), scores = buffer(most * keys);
            const Buffer turned = buffer(with_output ? padded * keys : 0);
            for (int64_t item = begin; item < end; ++item) {
                const int64_t first = item % blocks * kRows;
                block(item / blocks / problems, item / blocks % problems, first,
                      std::min(kRows, rows - first), keys, panels.get(), scores.get(), turned.get());
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

}  // namespace ikem
