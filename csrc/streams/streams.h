// Bones and motion of rows of numbers, whatever the numbers are: joints × bodies of one coordinate at one
// frame, or all of a frame side by side.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace ikem {

using torch::headeronly::ScalarType;

// x (sequences, frames, width), contiguous. parents (width,): the column that is subtracted from a column, or
// −1 where a root's bone is 0.
struct Streams {
    int64_t sequences, frames, width;
    const int64_t* parents;
    ScalarType type;  // Float, Double, Half or BFloat16
};

// bone = x − x[parents], motion = next frame − frame, 0 at the last; each of the shape of x, or null.
void streams_forward(const Streams& s, const void* x, void* bone, void* motion);

// gradient (the shape of x) of what came of x: joint, bone and motion are gradients, or null.
void streams_backward(const Streams& s, const void* joint, const void* bone, const void* motion,
                      void* gradient);

}  // namespace ikem
