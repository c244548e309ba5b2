#include "bank/largest.h"
#include "bank/rows.h"
#include "bank/tiles.h"

namespace ikem {
namespace {

// Where this much times topk is more than the bank, rows of all similarities are kept and their largest found
// at once, and not key by key as they come.
constexpr int64_t kMany = 4096;

// Clips of a block: the more, the fewer times the bank is packed; all similarities of a block are kept.
int64_t rows_of(int64_t clips, int64_t size) {
    constexpr int64_t kElements = 1 << 21, kFewest = 16;
    return std::clamp<int64_t>(kElements / size, std::min(clips, kFewest), std::min(clips, kClips));
}

void nearest_of_many(const Bank& bank, const Unit& unit, int64_t topk, float* values, int64_t* indices) {
    const int64_t clips = unit.clips, D = bank.dim, most = rows_of(clips, bank.size);
    const int64_t blocks = (clips + most - 1) / most;
    const int64_t between = round_up(bank.size, panel_width());
    in_parallel(bank.modalities * blocks, 1, [&](int64_t begin, int64_t end) {
        const Buffer s = buffer(most * between), panels = buffer(D * tile_keys(1));
        Largest largest;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t p = item / blocks, first = item % blocks * most;
            const int64_t count = std::min(most, clips - first), at = p * clips + first;
            meet_all(bank, p, unit.scaled.data() + at * D, count, panels.get(), s.get(), between);
            for (int64_t row = 0; row < count; ++row) {
                const float* of_row = s.get() + row * between;
                const std::vector<int32_t>& places = largest.find(of_row, bank.size, topk);
                for (int64_t t = 0; t < topk; ++t) {
                    values[(at + row) * topk + t] = of_row[places[t]];
                    indices[(at + row) * topk + t] = places[t];
                }
            }
        }
    });
}

}  // namespace

void nearest(const Bank& bank, const float* q, int64_t clips, int64_t topk, float* values, int64_t* indices) {
    const Unit unit(bank, {q, q, bank.modalities, clips, 1}, 1.0);
    if (topk * kMany >= bank.size) return nearest_of_many(bank, unit, topk, values, indices);
    const Parts parts(bank.size, std::min<int64_t>(parts_for(topk, bank.size), 4));
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
