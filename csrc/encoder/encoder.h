// What is left of an encoder's block when its convolutions are taken out: the graph, normalisation, ReLU,
// dropout and the residual, each one pass over memory. Shared by the ops (encoder_ops.cpp) and the kernels.
//
// Activations are (frames, V, C), frames of all clips and bodies one after another. What is a number for each
// channel comes as one for each column, a row of V·C; sums over frames come back the same way.
#pragma once

#include <cstdint>

namespace ikem {

// Activations as a matrix: a row for each frame, a column for each joint and channel.
struct Matrix {
    int64_t frames, columns;
};

// The graph of one block: for each target joint w and partition k, the joints v that it gathers from. Edges
// are sorted by (w, k); those of the target w in partition k are first[w·K + k] … first[w·K + k + 1] − 1.
struct Graph {
    int64_t frames, joints, channels, partitions, edges;
    const int64_t* first;   // (V·K + 1,)
    const int64_t* source;  // (edges,) v
    const float* weight;    // (edges,) A[k, v, w]
};

// Elements that dropout keeps are those whose random 32 bits, a function of seed, frame and column, are below
// `keep`; they are multiplied by `scale`. The backward pass draws the same bits again.
struct Dropout {
    uint64_t seed;
    uint32_t keep;
    float scale;
    bool active;
};

// T: float, or the 16 bits of a bfloat16 (uint16_t). Null pointers leave a term out.

// out (frames, V, K, C): out[w, k] = Σ_v A[k, v, w] x[v].
template <typename T>
void graph_forward(const Graph& g, const T* x, T* out);

// grad (frames, V, K, C) → grad_x (frames, V, C) and, added, grad_weight (edges,). Where `residual` is given,
// residual · (output > 0) is added to grad_x: the gradient that went past the block.
template <typename T>
void graph_backward(const Graph& g, const T* grad, const T* x, const T* residual, const T* output, T* grad_x,
                    double* grad_weight);

// sums (2, columns) += Σ y, Σ y².
template <typename T>
void column_sums(Matrix m, const T* y, double* sums);

// out = max(0, scale·y + shift).
template <typename T>
void normalise_relu(Matrix m, const T* y, const float* scale, const float* shift, T* out);

// d = grad · (scale·y + shift > 0): sums (2, columns) += Σ d, Σ d·y.
template <typename T>
void normalise_relu_sums(Matrix m, const T* grad, const T* y, const float* scale, const float* shift,
                         double* sums);

// With the same d: grad_y = a·d + b·y + c. grad_y may be grad.
template <typename T>
void normalise_relu_backward(Matrix m, const T* grad, const T* y, const float* scale, const float* shift,
                             const float* a, const float* b, const float* c, T* grad_y);

// One of the two branches that a block adds up: scale·y + shift, or y itself where scale is null.
template <typename T>
struct Branch {
    const T* y;
    const float *scale, *shift;
};

// out = max(0, dropout(main) + residual); a residual whose y is null is 0.
template <typename T>
void block_output(Matrix m, Branch<T> main, Branch<T> residual, Dropout dropout, T* out);

// d = grad · (output > 0), e = d through dropout: sums (2 or 4, columns) += Σ e, Σ e·y and, if a residual y
// is given, Σ d, Σ d·residual.
template <typename T>
void block_output_sums(Matrix m, const T* grad, const T* output, const T* y, const T* residual,
                       Dropout dropout, double* sums);

// With the same d and e: grad_y = a·e + b·y + c.
template <typename T>
void block_output_backward(Matrix m, const T* grad, const T* output, const T* y, const float* a,
                           const float* b, const float* c, Dropout dropout, T* grad_y);

}  // namespace ikem
