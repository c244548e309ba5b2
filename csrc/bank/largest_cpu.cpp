// Numbers become integers that sort as the numbers do, the largest first, with their places beside them.
#include <algorithm>
#include <cstring>

#include "bank/largest.h"
#include "common.h"

namespace ikem {
namespace {

constexpr int kDigits = 11, kBuckets = 1 << kDigits;
constexpr size_t kFew = 768;  // so many are sorted by comparing

IKEM_MULTIVERSION void sortable(const float* row, int64_t n, uint32_t* keys) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const float value = row[i] + 0.0f;  // −0 is as large as 0
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        const uint32_t descending = bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
        keys[i] = value != value ? 0xffffffffu : descending;
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
        found_[count] = static_cast<uint64_t>(keys_[i]) << 32 | static_cast<uint32_t>(i);
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
    places_.resize(k);
    for (int64_t i = 0; i < k; ++i) places_[i] = static_cast<int32_t>(found_[i] & 0xffffffffu);
    return places_;
}

}  // namespace ikem
