// Matrix products of one thread, for code that is parallel around them: of rows as they lie in memory with a
// matrix packed in panels, and of two packed ones over their rows. Written here and not taken from a library,
// so that every processor computes the same way, no setting of a library reaches in, and a pass over a bank
// is one parallel region.
#pragma once

#include <cstdint>

namespace ikem {

// Columns of a panel on this processor: a packed matrix (depth, columns) is panels of so many columns, each
// (depth, panel_width()), the last one filled up.
int64_t panel_width();

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c (rows, columns) = a (rows, depth) · b, or added to it where `add` is set. Rows of a are lda apart, rows
// of c ldc, panels of b panel_stride. Columns are written up to a whole number of panels.
void product(const float* a, int64_t lda, int64_t rows, const float* panels, int64_t panel_stride,
             int64_t depth, int64_t columns, float* c, int64_t ldc, bool add);

// Most rows of c that `correlate` computes at a time on this processor.
int64_t strip_width();

// c (columns of a, panel_width()) = aᵀ · b of two strips of rows that lie one after another: a (depth,
// strip_width()), of which so many columns count, and b (depth, panel_width()).
void correlate(const float* a, int64_t columns, const float* b, int64_t depth, float* c);

}  // namespace ikem
