// The k largest of a row: a few by the largest of blocks; many by digits, which costs the same whatever k is.
#pragma once

#include <cstdint>
#include <vector>

namespace ikem {

class Largest {
  public:
    // The k largest of row (n,), largest first, equal ones in their order, NaN last: their places.
    // Valid until the next call.
    const std::vector<int32_t>& find(const float* row, int64_t n, int64_t k);

  private:
    // Leave at least k numbers in found_, sorted. False where this is not the way to them.
    bool find_few(const float* row, int64_t n, int64_t k);
    void find_many(const float* row, int64_t n, int64_t k);

    std::vector<float> of_blocks_;
    std::vector<uint32_t> keys_;
    std::vector<uint64_t> found_, spare_;  // sortable numbers, and where they are
    std::vector<int32_t> places_;
};

}  // namespace ikem
