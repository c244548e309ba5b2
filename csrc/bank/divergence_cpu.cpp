// How far a student's neighborhood is from a teacher's: a block of clips against all the bank at a time,
// since which rows are the teacher's nearest is known when all have been seen.
#include <cmath>

#include "bank/largest.h"
#include "bank/rows.h"
#include "bank/tiles.h"

namespace ikem {
namespace {

constexpr int64_t kMostRows = 32, kFewestRows = 8;

// In exponents of 2: x · own keys, t · guide keys.
struct Divergence {
    const Bank &own, &guide;
    const int64_t clips, topk, rows, blocks, between;
    std::vector<float> x, t;
    float* const loss;
    float* const direction;

    Divergence(const Bank& own, const Bank& guide, const float* x, const float* t, int64_t clips,
               int64_t topk, float* loss, float* direction)
        : own(own),
          guide(guide),
          clips(clips),
          topk(topk),
          rows(std::clamp((clips + 1) / 2, std::min(clips, kFewestRows), kMostRows)),
          blocks((clips + rows - 1) / rows),
          between(round_up(own.size, panel_width())),
          x(x, x + own.modalities * clips * own.dim),
          t(t, t + guide.modalities * clips * guide.dim),
          loss(loss),
          direction(direction) {
        scale_row(this->x.data(), this->x.size(), static_cast<float>(kLog2e));
        scale_row(this->t.data(), this->t.size(), static_cast<float>(kLog2e));
    }

    // What a thread works with.
    struct Work {
        Buffer panels, turned, summed, student, teacher, near_student, near_teacher, weights;
        Largest largest;
    };

    Work start() const {
        const int64_t most = std::max(own.dim, guide.dim) * tile_keys(rows);
        const int64_t padded = round_up(own.dim, panel_width());
        const bool some = topk < own.size;
        return {buffer(most),
                buffer(direction ? padded * tile_keys(rows) : 0),
                buffer(direction ? rows * padded : 0),
                buffer(rows * between),
                buffer(rows * between),
                buffer(some ? topk : 0),
                buffer(some ? topk : 0),
                buffer(topk),
                {}};
    }

    void block(int64_t p, int64_t first, Work& w) const {
        const int64_t count = std::min(rows, clips - first), at = p * clips + first;
        meet_all(guide, p, t.data() + at * guide.dim, count, w.panels.get(), w.teacher.get(), between);
        meet_all(own, p, x.data() + at * own.dim, count, w.panels.get(), w.student.get(), between);
        for (int64_t row = 0; row < count; ++row) {
            loss[at + row] = clip(w.student.get() + row * between, w.teacher.get() + row * between, w);
        }
        if (direction != nullptr) sum_keys(p, at, count, w);
    }

    // The loss of one clip; its exponents x · own become the weights of the keys in its gradient.
    float clip(float* student, const float* teacher, Work& w) const {
        if (topk == own.size) return compare(student, teacher, topk, w.weights.get());
        const std::vector<int32_t>& places = w.largest.find(teacher, own.size, topk);
        for (int64_t i = 0; i < topk; ++i) {
            w.near_student[i] = student[places[i]];
            w.near_teacher[i] = teacher[places[i]];
        }
        const float loss = compare(w.near_student.get(), w.near_teacher.get(), topk, w.weights.get());
        if (direction == nullptr) return loss;
        std::fill_n(student, own.size, 0.0f);
        for (int64_t i = 0; i < topk; ++i) student[places[i]] = w.near_student[i];
        return loss;
    }

    // Σ p log(p / q) for p ∝ 2^teacher and q ∝ 2^student, which becomes q − p.
    static float compare(float* student, const float* teacher, int64_t n, float* weights) {
        const float most = largest(student, n), most_teacher = largest(teacher, n);
        std::copy_n(teacher, n, weights);
        const double total_teacher = exponentials(weights, n, most_teacher);
        const double apart = weighted_difference(weights, teacher, student, n) / total_teacher;
        const double total = exponentials(student, n, most);
        difference(student, weights, n, static_cast<float>(1.0 / total),
                   static_cast<float>(1.0 / total_teacher));
        const double partitions =
            (static_cast<double>(most) - most_teacher) + std::log2(total / total_teacher);
        return static_cast<float>((apart + partitions) * kLn2);
    }

    // direction of `count` clips from `at` on := their weights · keys.
    void sum_keys(int64_t p, int64_t at, int64_t count, Work& w) const {
        const int64_t keys = tile_keys(rows), D = own.dim, padded = round_up(D, panel_width());
        std::fill_n(w.summed.get(), count * padded, 0.0f);
        for (int64_t key = 0; key < own.size; key += keys) {
            const int64_t n = std::min(keys, own.size - key);
            pack_keys(own, p, 1, key, n, w.panels.get());
            turn_keys(w.panels.get(), D * panel_width(), D, n, w.turned.get());
            product(w.student.get() + key, between, count, w.turned.get(), n * panel_width(), n, padded,
                    w.summed.get(), padded, true);
        }
        for (int64_t row = 0; row < count; ++row) {
            std::copy_n(w.summed.get() + row * padded, D, direction + (at + row) * D);
        }
    }
};

}  // namespace

void neighbor_divergence(const Bank& own, const Bank& guide, const float* x, const float* t, int64_t clips,
                         int64_t topk, float* loss, float* direction) {
    const Divergence divergence(own, guide, x, t, clips, topk, loss, direction);
    in_parallel(own.modalities * divergence.blocks, 1, [&](int64_t begin, int64_t end) {
        Divergence::Work work = divergence.start();
        for (int64_t item = begin; item < end; ++item) {
            divergence.block(item / divergence.blocks, item % divergence.blocks * divergence.rows, work);
        }
    });
}

}  // namespace ikem
