// What is left of an encoder's block when its convolutions are taken out: the graph, normalization, ReLU,
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

// grad (frames, V, K, C) → grad_x (frames, V, C) and, added, grad_weight (edges,). To grad_x is
// added what went past the block, where it is given: residual, times (output > 0) where that is given too.
template <typename T>
void graph_backward(const Graph& g, const T* grad, const T* x, const T* residual, const T* output, T* grad_x,
                    double* grad_weight);

// A graph convolution of few channels as one: matrix (C', K·C) times what `graph_forward` gathers, out
// (frames, V, C').
template <typename T>
void graph_convolution(const Graph& g, int64_t outputs, const float* matrix, const T* x, T* out);

// grad (frames, V, C') → grad_x (frames, V, C), grad_weight (edges,) and grad_matrix (C', K·C). `residual`
// and `output` as above.
template <typename T>
void graph_convolution_backward(const Graph& g, int64_t outputs, const float* matrix, const T* grad,
                                const T* x, const T* residual, const T* output, T* grad_x, float* grad_weight,
                                float* grad_matrix);

// A convolution over time, by a kernel of an odd length, with zeros beyond the ends, of
// (clips, frames, V, C).
struct TemporalConvolution {
    int64_t clips, frames, joints, channels, taps, stride;

    int64_t frames_out() const { return (frames - 1) / stride + 1; }
    int64_t tracks() const { return clips * joints; }
};

// Of few channels: out (clips, frames', V, C) = the convolution of max(0, scale·y + shift), affine (2, V·C),
// by weight (C, C, taps).
template <typename T>
void temporal_convolution(const TemporalConvolution& n, const float* weight, const T* y, const float* affine,
                          T* out);

// grad (clips, frames', V, C) → grad_x, in what is convolved, and grad_weight (C, C, taps).
template <typename T>
void temporal_convolution_backward(const TemporalConvolution& n, const float* weight, const T* grad,
                                   const T* y, const float* affine, T* grad_x, float* grad_weight);

// Of many channels the gradient in the weight alone: grad (clips, frames', V, C) → grad_weight (C, C, taps).
template <typename T>
void temporal_weights(const TemporalConvolution& n, const T* grad, const T* y, const float* affine,
                      float* grad_weight);

// A batch normalization of activations y (frames, V, C) to which a bias was added on paper only.
// `bias_joints` is V, or 1 for a bias that all joints share. Its statistics, which `normalization_statistics`
// fills in, are the mean (C) and 1/sqrt(variance + eps) (C) of y + bias, and the sums of y over frames (V·C).
struct Normalization {
    int64_t frames, joints, channels, bias_joints;
    bool batch;  // statistics are the batch's own; else the running ones
    double eps, momentum;
    const float *bias, *gamma, *beta;
    double* statistics;  // (2·C + V·C)

    int64_t columns() const { return joints * channels; }
    double* mean() const { return statistics; }
    double* inverse() const { return statistics + channels; }
    double* column_sums() const { return statistics + 2 * channels; }
    double bias_at(int64_t joint, int64_t channel) const {
        return bias[(bias_joints == 1 ? 0 : joint) * channels + channel];
    }
};

// Gradients that a normalization's parameters receive, the bias's as (bias_joints, C).
struct NormalizationGradients {
    float *bias, *gamma, *beta;
};

// Fills in the statistics, and affine (2, V·C): the scale and shift of each column that normalize y. The
// batch's statistics move the running ones towards themselves.
template <typename T>
void normalization_statistics(const Normalization& n, const T* y, float* running_mean, float* running_var,
                              float* affine);

// From sums (2, V·C) of d and d·y over frames, d the gradient in what is normalized: (a, b, c) (3, V·C) of
// the gradient in y, a·d + b·y + c, and the parameters' gradients.
void normalization_gradients(const Normalization& n, const double* sums, float* coefficients,
                             NormalizationGradients gradients);

// out = max(0, scale·y + shift), affine as above.
template <typename T>
void normalize_relu(Matrix m, const T* y, const float* affine, T* out);

// d = grad · (scale·y + shift > 0) → the gradient in y, which may be grad, and those of the parameters.
template <typename T>
void normalize_relu_backward(const Normalization& n, const T* grad, const T* y, const float* affine,
                             T* grad_y, NormalizationGradients gradients);

// One of the two branches that a block adds up: scale·y + shift, or y itself where affine is null.
template <typename T>
struct Branch {
    const T* y;
    const float* affine;
};

// out = max(0, dropout(main) + residual); a residual whose y is null is 0.
template <typename T>
void block_output(Matrix m, Branch<T> main, Branch<T> residual, Dropout dropout, T* out);

// What one branch gives back: the gradients in its y and in its normalization's parameters.
template <typename T>
struct BranchBackward {
    Normalization normalization;
    const T* y;
    T* grad_y;
    NormalizationGradients gradients;
};

// d = grad · (output > 0), and d through dropout, taken back through the main branch and, unless it is null,
// a normalized residual.
template <typename T>
void block_output_backward(const T* grad, const T* output, const BranchBackward<T>& main,
                           const BranchBackward<T>* residual, Dropout dropout);

}  // namespace ikem
