// What is done with a row of a tile: sums of powers of two, running log-sum-exps, the largest so far. Every
// loop works on lanes side by side, in the same order whatever the processor's vectors are.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace ikem {

// The largest number, and the largest product of two.
float largest(const float* x, int64_t n);
float largest_product(const float* x, const float* y, int64_t n);

// x := 2^(x − maximum); their sum.
double exponentials(float* x, int64_t n, float maximum);

// Σ 2^(scale · x − maximum), Σ 2^(x · y − maximum).
double sum_of_exponentials(const float* x, int64_t n, float scale, float maximum);
double sum_of_product_exponentials(const float* x, const float* y, int64_t n, float maximum);

// weights := factor · 2^(scale · x − offset).
void own_weights(const float* x, int64_t n, float scale, float offset, float factor, float* weights);

// e = factor · 2^(x·y − offset): weights_x += e·y, and of a pair weights_y += e·x too.
void anchor_weights(const float* x, const float* y, int64_t n, float offset, float factor, float* weights_x);
void pair_weights(const float* x, const float* y, int64_t n, float offset, float factor, float* weights_x,
                  float* weights_y);

// How many are above a limit.
int64_t count_above(const float* x, int64_t n, float limit);

// Σ weights · (x − y).
double weighted_difference(const float* weights, const float* x, const float* y, int64_t n);

// x := a · x − b · y.
void difference(float* x, const float* y, int64_t n, float a, float b);

// x := factor · x.
void scale_row(float* x, int64_t n, float factor);

// log₂ Σ 2^x of all that was added, as maximum + log₂ total.
struct LogSumExp {
    float maximum = -std::numeric_limits<float>::infinity();
    double total = 0.0;

    void add(float other_maximum, double other_total) {
        if (other_maximum > maximum) {
            total = total * std::exp2(static_cast<double>(maximum) - other_maximum) + other_total;
            maximum = other_maximum;
        } else if (other_total != 0.0) {
            total += other_total * std::exp2(static_cast<double>(other_maximum) - maximum);
        }
    }

    double result() const { return maximum + std::log2(total); }
};

// A key of the bank and how similar it is; the nearer of two, or the first of two as near.
struct Neighbor {
    float value;
    int32_t index;

    bool operator<(const Neighbor& other) const {
        return value > other.value || (value == other.value && index < other.index);
    }
};

// The topk nearest of all that were added. Keeps up to `room` and then throws away all but topk: a few
// operations for each key that comes near enough, however many are wanted.
class Nearest {
  public:
    explicit Nearest(int64_t topk) : topk_(topk), room_(std::max<int64_t>(2 * topk, 32)) {}

    void add(const float* similarities, int64_t n, float largest, int64_t first) {
        if (largest <= least_) return;
        for (int64_t i = 0; i < n; ++i) {
            if (!(similarities[i] > least_)) continue;
            kept_.push_back({similarities[i], static_cast<int32_t>(first + i)});
            if (static_cast<int64_t>(kept_.size()) >= room_) shrink();
        }
        if (topk_ == 1) shrink();
    }

    // Those of a later part of the bank too.
    void add(const Nearest& other) { kept_.insert(kept_.end(), other.kept_.begin(), other.kept_.end()); }

    // Only the topk; how many there are.
    int64_t shrink() {
        if (static_cast<int64_t>(kept_.size()) >= topk_) {
            std::nth_element(kept_.begin(), kept_.begin() + (topk_ - 1), kept_.end());
            kept_.resize(topk_);
            least_ = kept_.back().value;
        }
        return static_cast<int64_t>(kept_.size());
    }

    // Nearest first.
    const std::vector<Neighbor>& sorted() {
        shrink();
        std::sort(kept_.begin(), kept_.end());
        return kept_;
    }

  private:
    int64_t topk_, room_;
    float least_ = -std::numeric_limits<float>::infinity();
    std::vector<Neighbor> kept_;
};

}  // namespace ikem
