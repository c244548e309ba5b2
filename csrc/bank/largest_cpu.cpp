// Numbers become integers that sort as the numbers do, the largest first, with their places beside them.
#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "bank/largest.h"
#include "common.h"

namespace ikem {
namespace {

constexpr int kDigits = 11, kBuckets = 1 << kDigits;
constexpr size_t kFew = 768;    // so many are sorted by comparing
constexpr int64_t kBlock = 32;  // numbers whose largest is looked at for all of them

inline uint32_t sortable(float number) {
    const float value = number + 0.0f;  // −0 is as large as 0
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t descending = bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
    return value != value ? 0xffffffffu : descending;
}

inline uint64_t item(uint32_t key, int64_t place) {
    return static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(place);
}

IKEM_MULTIVERSION void sortable(const float* row, int64_t n, uint32_t* keys) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) keys[i] = sortable(row[i]);
}

// The largest number of each whole block; −infinity where all are NaN.
IKEM_MULTIVERSION void largest_of_blocks(const float* row, int64_t blocks, float* largest) {
    for (int64_t block = 0; block < blocks; ++block) {
        float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
        for (int64_t i = block * kBlock; i < (block + 1) * kBlock; ++i) most = row[i] > most ? row[i] : most;
        largest[block] = most;
    }
}

// By the 11 digits from `shift` on; a stable pass.
void sort_by_digits(const std::vector<uint64_t>& from, std::vector<uint64_t>& to, int shift) {
    int64_t starts[kBuckets] = {};
    for (const uint64_t item : from) ++starts[(item >> shift) & (kBuckets - 1)];
    int64_t begin = 0;
    for (int64_t& start : starts) {
        const int64_t count = start;
        start = begin, begin += count;
    }
    for (const uint64_t item : from) to[starts[(item >> shift) & (kBuckets - 1)]++] = item;
}

}  // namespace

const std::vector<int32_t>& Largest::find(const float* row, int64_t n, int64_t k) {
    if (!find_few(row, n, k)) find_many(row, n, k);
    places_.resize(k);
    for (int64_t i = 0; i < k; ++i) places_[i] = static_cast<int32_t>(found_[i] & 0xffffffffu);
    return places_;
}

// As many blocks as are wanted have a number that is not below the k-th largest of the blocks' largest: only
// what is not below that is among the k, and most blocks need not be read again.
bool Largest::find_few(const float* row, int64_t n, int64_t k) {
    const int64_t blocks = n / kBlock;
    if (blocks < 2 * k) return false;
    of_blocks_.resize(2 * blocks);
    float *largest = of_blocks_.data(), *sorted = largest + blocks;
    largest_of_blocks(row, blocks, largest);
    std::copy(largest, largest + blocks, sorted);
    std::nth_element(sorted, sorted + k - 1, sorted + blocks, std::greater<float>());
    const float limit = sorted[k - 1];
    found_.clear();
    const auto look = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            if (row[i] >= limit) found_.push_back(item(sortable(row[i]), i));
    };
    for (int64_t block = 0; block < blocks; ++block)
        if (largest[block] >= limit) look(block * kBlock, (block + 1) * kBlock);
    look(blocks * kBlock, n);
    if (static_cast<int64_t>(found_.size()) < k || found_.size() > kFew) return false;  // NaN; many are equal
    std::sort(found_.begin(), found_.end());
    return true;
}

void Largest::find_many(const float* row, int64_t n, int64_t k) {
    keys_.resize(n);
    sortable(row, n, keys_.data());
    // Only those whose first digits say that they may be among the k.
    int64_t counts[kBuckets] = {};
    for (const uint32_t key : keys_) ++counts[key >> (32 - kDigits)];
    uint32_t last = 0;
    for (int64_t seen = counts[0]; seen < k;) seen += counts[++last];
    const uint32_t limit = last << (32 - kDigits) | ((1u << (32 - kDigits)) - 1);
    found_.resize(n);
    size_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        found_[count] = item(keys_[i], i);
        count += keys_[i] <= limit;
    }
    found_.resize(count);
    if (count <= kFew) {
        std::sort(found_.begin(), found_.end());
    } else {
        spare_.resize(count);
        for (const int shift : {32, 32 + kDigits, 32 + 2 * kDigits - 1}) {
            sort_by_digits(found_, spare_, shift);
            std::swap(found_, spare_);
        }
    }
}

}  // namespace ikem
