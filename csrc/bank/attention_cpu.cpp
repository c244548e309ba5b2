// InfoNCE as attention whose first key is the positive, and attention to the bank alone.
//
// The gradient in a row is the attention's output, with values = keys, less the positive key. It accumulates
// in the same pass: one product more, where making the similarities again would be two.
#include <cmath>

#include "bank/rows.h"
#include "bank/tiles.h"

namespace ikem {
namespace {

constexpr int64_t kMostParts = 8, kRows = 1024;

// Rows (problems · rows, width) that meet the bank in exponents of 2; those of a problem share a bank, of one
// modality or of all. `limits`, where not null, one for each: how many exponents are above it is counted.
struct Rows {
    const float* x;
    int64_t problems, rows, width, chunks;
    const float* limits;

    int64_t all() const { return problems * rows; }
};

struct AttentionPass {
    const Bank& bank;
    const Rows r;
    bool with_output;
    Parts parts;
    int64_t padded;  // a modality's numbers, up to a whole number of panels

    // (parts, problems · rows): what is left of each row's pass over each part.
    std::vector<LogSumExp> sums;
    std::vector<int64_t> above;
    Buffer output;  // (parts, problems · rows, chunks · padded): Σ 2^(exponent − maximum) · key

    AttentionPass(const Bank& bank, const Rows& r, bool with_output)
        : bank(bank),
          r(r),
          with_output(with_output),
          parts(bank.size, kMostParts),
          padded(round_up(bank.dim, panel_width())),
          sums(parts.count * r.all()),
          above(r.limits != nullptr ? sums.size() : 0) {
        if (with_output) output = buffer(static_cast<int64_t>(sums.size()) * output_width());
    }

    int64_t output_width() const { return r.chunks * padded; }

    // What all parts leave of a row, put together in their order.
    LogSumExp total(int64_t row) const {
        LogSumExp sum;
        for (int64_t part = 0; part < parts.count; ++part) {
            const LogSumExp& partial = sums[part * r.all() + row];
            sum.add(partial.maximum, partial.total);
        }
        return sum;
    }

    // sum (chunks · D) += Σ over parts of 2^(maximum − offset) · what the part left.
    void add_output(int64_t row, double offset, double* sum) const {
        for (int64_t part = 0; part < parts.count; ++part) {
            const double weight = std::exp2(sums[part * r.all() + row].maximum - offset);
            const float* from = output.get() + (part * r.all() + row) * output_width();
            for (int64_t c = 0; c < r.chunks; ++c) {
                for (int64_t d = 0; d < bank.dim; ++d) sum[c * bank.dim + d] += weight * from[c * padded + d];
            }
        }
    }

    void run() {
        const int64_t problems = r.problems, blocks = (r.rows + kRows - 1) / kRows;
        in_parallel(parts.count * problems * blocks, 1, [&](int64_t begin, int64_t end) {
            const int64_t most = std::min(r.rows, kRows), keys = tile_keys(most);
            const Buffer panels = buffer(r.width * keys), scores = buffer(most * keys);
            const Buffer turned = buffer(with_output ? padded * keys : 0);
            for (int64_t item = begin; item < end; ++item) {
                const int64_t first = item % blocks * kRows;
                block(item / blocks / problems, item / blocks % problems, first,
                      std::min(kRows, r.rows - first), keys, panels.get(), scores.get(), turned.get());
            }
        });
    }

    void block(int64_t part, int64_t problem, int64_t first, int64_t count, int64_t keys, float* panels,
               float* scores, float* turned) {
        const int64_t at = problem * r.rows + first, left = part * r.all() + at;
        const float* x = r.x + at * r.width;
        LogSumExp* sum = sums.data() + left;
        float* out = output.get() + left * output_width();
        const int64_t stride = r.width * panel_width();
        if (with_output) std::fill_n(out, count * output_width(), 0.0f);
        for (int64_t key = parts.begin(part); key < parts.end(part); key += keys) {
            const int64_t n = std::min(keys, parts.end(part) - key);
            pack_keys(bank, problem, r.chunks, key, n, panels);
            product(x, r.width, count, panels, stride, r.width, n, scores, keys, false);
            for (int64_t row = 0; row < count; ++row) {
                float* exponents = scores + row * keys;
                if (r.limits != nullptr) above[left + row] += count_above(exponents, n, r.limits[at + row]);
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
            for (int64_t c = 0; with_output && c < r.chunks; ++c) {
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
    const int64_t all = f.features * f.clips, problems = f.chunks > 1 ? 1 : f.features;
    AttentionPass pass(bank, {unit.scaled.data(), problems, all / problems, unit.width, unit.chunks, nullptr},
                       direction != nullptr);
    pass.run();
    in_parallel(all, 16, [&](int64_t begin, int64_t end) {
        std::vector<double> sum(unit.width);
        for (int64_t row = begin; row < end; ++row) {
            const int64_t feature = row / f.clips, clip = row % f.clips;
            const double positive = unit.positive(feature, clip) * scale;
            // log₂(1 + Σ 2^(others − positive)), its sum rounded to float as the published code rounds it,
            // which shows where a loss is near 0.
            const double above = pass.total(row).result() - positive;
            const double excess = above > 0 ? above + std::log2(1.0 + std::exp2(-above))
                                            : std::log2(double{static_cast<float>(1.0 + std::exp2(above))});
            loss[row] = static_cast<float>(excess * kLn2);
            if (direction == nullptr) continue;

            float* gradient = direction + row * unit.width;
            const double of_positive = std::exp2(-excess) - 1.0;
            for (int64_t c = 0; c < unit.chunks; ++c) {
                const float* key = unit.key(feature, clip, c);
                for (int64_t d = 0; d < unit.dim; ++d) sum[c * unit.dim + d] = of_positive * key[d];
            }
            pass.add_output(row, positive + excess, sum.data());
            for (int64_t i = 0; i < unit.width; ++i) gradient[i] = static_cast<float>(sum[i] * scale * kLn2);
            through_normalization(gradient, unit.x.data() + row * unit.width, unit.inverse[row], unit.width);
        }
    });
}

void softmax(const Bank& bank, const float* x, int64_t clips, const float* limits, float* partition,
             float* mean, int64_t* above) {
    const int64_t all = bank.modalities * clips, D = bank.dim;
    std::vector<float> scaled(x, x + all * D), scaled_limits;
    scale_row(scaled.data(), all * D, static_cast<float>(kLog2e));
    if (limits != nullptr) {
        scaled_limits.assign(limits, limits + all);
        scale_row(scaled_limits.data(), all, static_cast<float>(kLog2e));
    }
    const float* exponents_above = limits != nullptr ? scaled_limits.data() : nullptr;
    AttentionPass pass(bank, {scaled.data(), bank.modalities, clips, D, 1, exponents_above}, mean != nullptr);
    pass.run();
    in_parallel(all, 16, [&](int64_t begin, int64_t end) {
        std::vector<double> sum(D);
        for (int64_t row = begin; row < end; ++row) {
            const double total = pass.total(row).result();
            partition[row] = static_cast<float>(total * kLn2);
            if (limits != nullptr) {
                above[row] = 0;
                for (int64_t part = 0; part < pass.parts.count; ++part)
                    above[row] += pass.above[part * all + row];
            }
            if (mean == nullptr) continue;
            std::fill(sum.begin(), sum.end(), 0.0);
            pass.add_output(row, total, sum.data());
            for (int64_t d = 0; d < D; ++d) mean[row * D + d] = static_cast<float>(sum[d]);
        }
    });
}

}  // namespace ikem
