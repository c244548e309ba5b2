// The k largest of a row where k is not small: sorting by digits costs the same whatever k is.
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
    std::vector<uint32_t> keys_;
    std::vector<uint64_t> found_, spare_;
    std::vector<int32_t> places_;
};

}  // namespace ikem
