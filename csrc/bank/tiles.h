// What the passes over a bank share: the bank cut into parts and packed in tiles, features of unit length.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "bank/bank.h"
#include "products/products.h"

namespace ikem {

constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453;

// The bank is cut into parts of so many keys at least; a block has so many clips, or rows.
constexpr int64_t kPartKeys = 1024;
constexpr int64_t kClips = 128;

using Buffer = std::unique_ptr<float[]>;

inline Buffer buffer(int64_t size) { return Buffer(new float[size]); }

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
inline int64_t parts_for(int64_t topk, int64_t size) {
    constexpr int64_t kMost = 16;
    return std::clamp<int64_t>(size / (32 * topk), 1, kMost);
}

// Keys in a tile that goes with so many rows, a whole number of panels. With the keys beside them its
// similarities stay in the second- and third-level cache.
inline int64_t tile_keys(int64_t rows) {
    constexpr int64_t kElements = 1 << 18, kKeys = 512;
    return round_up(std::clamp<int64_t>(kElements / rows, 128, kKeys), panel_width());
}

// `keys` keys from `first` on, of `chunks` modalities from `chunk` on side by side, in panels (chunks · D,
// width): what `product` multiplies rows of features with. Beyond the last key zeros.
void pack_keys(const Bank& bank, int64_t chunk, int64_t chunks, int64_t first, int64_t keys, float* panels);

// The same keys turned round, one modality of them: in panels (keys, width) of its numbers, what `product`
// multiplies weights with. `panels` as pack_keys left them, from this modality's first on, `stride` apart.
void turn_keys(const float* panels, int64_t stride, int64_t dim, int64_t keys, float* turned);

// out (rows, ≥ size up to a whole number of panels, `between` apart) := x · keys of one modality, of all the
// bank at once. panels: room for dim · tile_keys(rows) numbers.
void meet_all(const Bank& bank, int64_t modality, const float* x, int64_t rows, float* panels, float* out,
              int64_t between);

// One row of the bank, in all modalities: (P, D).
void read_key(const Bank& bank, int64_t key, float* row);

double dot(const float* a, const float* b, int64_t n);

// gradient (n,) in a row of unit length → in the row it was made of.
void through_normalization(float* gradient, const float* unit, float inverse, int64_t n);

// Features and keys of unit length, and how the two meet.
struct Unit {
    int64_t clips, chunks, dim, width;  // width: of a row of x
    std::vector<float> x, inverse, y, scaled;

    Unit(const Bank& bank, const Features& f, double scale);

    // The key that a chunk of a feature's row meets.
    const float* key(int64_t feature, int64_t clip, int64_t chunk) const {
        return y.data() + ((chunks > 1 ? chunk : feature) * clips + clip) * dim;
    }

    // x · key, without temperature and √chunks.
    double positive(int64_t feature, int64_t clip) const;
};

}  // namespace ikem
