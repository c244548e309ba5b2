// Registers the kernels of encoder.h with torch, for CPU tensors. They write into tensors that the caller
// (ikem_fast/ops/encoder/fused_block.py) made; what is checked here is what memory safety rests on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <vector>

#include "encoder/encoder.h"

namespace ikem {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check(const Tensor& tensor, const char* name, ScalarType type, int64_t numel) {
    STD_TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == type && tensor.numel() == numel, name,
                    ": expected a contiguous tensor of ", numel, " numbers of the right dtype, found ",
                    tensor.numel());
}

void check_like(const Tensor& tensor, const char* name, const Tensor& y) {
    check(tensor, name, y.scalar_type(), y.numel());
}

// Activations (…, V, C) as a matrix, for as many columns as `per_column` has numbers.
Matrix matrix(const Tensor& y, const Tensor& per_column, int64_t rows = 1) {
    const int64_t columns = per_column.numel() / rows;
    STD_TORCH_CHECK(y.scalar_type() == ScalarType::Float || y.scalar_type() == ScalarType::BFloat16,
                    "expected float32 or bfloat16 activations");
    STD_TORCH_CHECK(
        y.is_contiguous() && columns > 0 && y.numel() % columns == 0 && per_column.numel() == rows * columns,
        "expected contiguous activations of ", columns, " columns, found ", y.numel(), " numbers");
    return {y.numel() / columns, columns};
}

// call(pointer type tag) for the dtype of activations.
template <typename Call>
void with_type(const Tensor& y, const Call& call) {
    y.scalar_type() == ScalarType::Float ? call(float()) : call(uint16_t());
}

template <typename T>
const T* read(const Tensor& tensor) {
    return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
const T* read(const std::optional<Tensor>& tensor) {
    return tensor ? read<T>(*tensor) : nullptr;
}

template <typename T>
T* write(Tensor& tensor) {
    return static_cast<T*>(tensor.mutable_data_ptr());
}

Graph graph(const Tensor& x, const Tensor& first, const Tensor& source, const Tensor& weight,
            int64_t partitions) {
    STD_TORCH_CHECK(x.dim() >= 3 && x.is_contiguous(), "x: expected contiguous activations (…, V, C)");
    const int64_t V = x.size(x.dim() - 2), C = x.size(x.dim() - 1), edges = weight.numel();
    STD_TORCH_CHECK(V > 0 && C > 0 && partitions > 0, "x: expected joints and channels, found none");
    check(first, "first", ScalarType::Long, V * partitions + 1);
    check(source, "source", ScalarType::Long, edges);
    check(weight, "weight", ScalarType::Float, edges);
    const auto* starts = read<int64_t>(first);
    const auto* joints = read<int64_t>(source);
    STD_TORCH_CHECK(starts[0] == 0 && starts[V * partitions] == edges &&
                        std::is_sorted(starts, starts + V * partitions + 1),
                    "first: expected numbers that rise from 0 to ", edges, ", the number of edges");
    STD_TORCH_CHECK(std::all_of(joints, joints + edges, [V](int64_t v) { return 0 <= v && v < V; }),
                    "source: expected joints 0 … ", V - 1);
    return {x.numel() / (V * C), V, C, partitions, edges, starts, joints, read<float>(weight)};
}

Dropout dropout_of(double probability, int64_t seed) {
    const double keep = 1.0 - probability;
    const auto threshold = static_cast<uint32_t>(std::min(std::llround(keep * 4294967296.0), 4294967295LL));
    return {static_cast<uint64_t>(seed), threshold, static_cast<float>(1.0 / keep), probability > 0.0};
}

void graph_forward_op(const Tensor& x, const Tensor& first, const Tensor& source, const Tensor& weight,
                      int64_t partitions, Tensor out) {
    const Graph g = graph(x, first, source, weight, partitions);
    check(out, "out", x.scalar_type(), x.numel() * partitions);
    with_type(x, [&](auto t) { graph_forward(g, read<decltype(t)>(x), write<decltype(t)>(out)); });
}

void check_past(const std::optional<Tensor>& residual, const std::optional<Tensor>& output, const Tensor& x) {
    STD_TORCH_CHECK(residual.has_value() || !output.has_value(), "residual: expected together with output");
    if (residual) check_like(*residual, "residual", x);
    if (output) check_like(*output, "output", x);
}

void graph_backward_op(const Tensor& grad, const Tensor& x, std::optional<Tensor> residual,
                       std::optional<Tensor> output, const Tensor& first, const Tensor& source,
                       const Tensor& weight, int64_t partitions, Tensor grad_x, Tensor grad_weight) {
    const Graph g = graph(x, first, source, weight, partitions);
    check(grad, "grad", x.scalar_type(), x.numel() * partitions);
    check_like(grad_x, "grad_x", x);
    check(grad_weight, "grad_weight", ScalarType::Double, g.edges);
    check_past(residual, output, x);
    with_type(x, [&](auto t) {
        using T = decltype(t);
        graph_backward(g, read<T>(grad), read<T>(x), read<T>(residual), read<T>(output), write<T>(grad_x),
                       write<double>(grad_weight));
    });
}

void graph_convolution_op(const Tensor& x, const Tensor& first, const Tensor& source, const Tensor& weight,
                          int64_t partitions, const Tensor& matrix, Tensor out) {
    const Graph g = graph(x, first, source, weight, partitions);
    const int64_t outputs = matrix.size(0);
    check(matrix, "matrix", ScalarType::Float, outputs * partitions * g.channels);
    check(out, "out", x.scalar_type(), g.frames * g.joints * outputs);
    with_type(x, [&](auto t) {
        using T = decltype(t);
        graph_convolution(g, outputs, read<float>(matrix), read<T>(x), write<T>(out));
    });
}

void graph_convolution_backward_op(const Tensor& grad, const Tensor& x, std::optional<Tensor> residual,
                                   std::optional<Tensor> output, const Tensor& first, const Tensor& source,
                                   const Tensor& weight, int64_t partitions, const Tensor& matrix,
                                   Tensor grad_x, Tensor grad_weight, Tensor grad_matrix) {
    const Graph g = graph(x, first, source, weight, partitions);
    const int64_t outputs = matrix.size(0);
    check(matrix, "matrix", ScalarType::Float, outputs * partitions * g.channels);
    check(grad, "grad", x.scalar_type(), g.frames * g.joints * outputs);
    check_like(grad_x, "grad_x", x);
    check(grad_weight, "grad_weight", ScalarType::Float, g.edges);
    check(grad_matrix, "grad_matrix", ScalarType::Float, matrix.numel());
    check_past(residual, output, x);
    with_type(x, [&](auto t) {
        using T = decltype(t);
        graph_convolution_backward(g, outputs, read<float>(matrix), read<T>(grad), read<T>(x),
                                   read<T>(residual), read<T>(output), write<T>(grad_x),
                                   write<float>(grad_weight), write<float>(grad_matrix));
    });
}

// The convolution over time of activations y (B, T, V, C), which `affine` normalizes, by weight (C, C, L, 1).
TemporalConvolution temporal(const Tensor& y, const Tensor& affine, const Tensor& weight, int64_t stride) {
    STD_TORCH_CHECK(y.dim() == 4 && y.is_contiguous() && y.numel() > 0,
                    "y: expected contiguous activations (B, T, V, C)");
    const int64_t C = y.size(3), taps = weight.numel() / (C * C);
    STD_TORCH_CHECK(taps % 2 == 1 && stride > 0, "weight: expected an odd number of taps, found ", taps);
    check(weight, "weight", ScalarType::Float, taps * C * C);
    check(affine, "affine", ScalarType::Float, 2 * y.size(2) * C);
    return {y.size(0), y.size(1), y.size(2), C, taps, stride};
}

void temporal_convolution_op(const Tensor& y, const Tensor& affine, const Tensor& weight, int64_t stride,
                             Tensor out) {
    const TemporalConvolution n = temporal(y, affine, weight, stride);
    check(out, "out", y.scalar_type(), n.tracks() * n.frames_out() * n.channels);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        temporal_convolution(n, read<float>(weight), read<T>(y), read<float>(affine), write<T>(out));
    });
}

void temporal_convolution_backward_op(const Tensor& grad, const Tensor& y, const Tensor& affine,
                                      const Tensor& weight, int64_t stride, Tensor grad_x,
                                      Tensor grad_weight) {
    const TemporalConvolution n = temporal(y, affine, weight, stride);
    check(grad, "grad", y.scalar_type(), n.tracks() * n.frames_out() * n.channels);
    check_like(grad_x, "grad_x", y);
    check(grad_weight, "grad_weight", ScalarType::Float, weight.numel());
    with_type(y, [&](auto t) {
        using T = decltype(t);
        temporal_convolution_backward(n, read<float>(weight), read<T>(grad), read<T>(y), read<float>(affine),
                                      write<T>(grad_x), write<float>(grad_weight));
    });
}

void temporal_weights_op(const Tensor& grad, const Tensor& y, const Tensor& affine, int64_t stride,
                         Tensor grad_weight) {
    const TemporalConvolution n = temporal(y, affine, grad_weight, stride);
    check(grad, "grad", y.scalar_type(), n.tracks() * n.frames_out() * n.channels);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        temporal_weights(n, read<T>(grad), read<T>(y), read<float>(affine), write<float>(grad_weight));
    });
}

// The normalization of activations y (…, V, C) with these parameters; its statistics are written or read.
Normalization normalization(const Tensor& y, const Tensor& bias, const Tensor& gamma, const Tensor& beta,
                            const Tensor& statistics, bool batch, double momentum, double eps) {
    STD_TORCH_CHECK(y.dim() >= 3 && y.is_contiguous() && y.numel() > 0,
                    "y: expected contiguous activations (…, V, C)");
    STD_TORCH_CHECK(y.scalar_type() == ScalarType::Float || y.scalar_type() == ScalarType::BFloat16,
                    "expected float32 or bfloat16 activations");
    const int64_t V = y.size(y.dim() - 2), C = y.size(y.dim() - 1);
    const int64_t bias_joints = bias.numel() == C ? 1 : V;
    check(bias, "bias", ScalarType::Float, bias_joints * C);
    check(gamma, "gamma", ScalarType::Float, C);
    check(beta, "beta", ScalarType::Float, C);
    check(statistics, "statistics", ScalarType::Double, (2 + V) * C);
    // Forward writes the statistics through a tensor of its own; what is const here is not written to.
    auto* numbers = const_cast<double*>(read<double>(statistics));
    return {y.numel() / (V * C),
            V,
            C,
            bias_joints,
            batch,
            eps,
            momentum,
            read<float>(bias),
            read<float>(gamma),
            read<float>(beta),
            numbers};
}

NormalizationGradients gradients(const Normalization& n, Tensor& bias, Tensor& gamma, Tensor& beta) {
    check(bias, "grad_bias", ScalarType::Float, n.bias_joints * n.channels);
    check(gamma, "grad_gamma", ScalarType::Float, n.channels);
    check(beta, "grad_beta", ScalarType::Float, n.channels);
    return {write<float>(bias), write<float>(gamma), write<float>(beta)};
}

void normalization_op(const Tensor& y, const Tensor& bias, const Tensor& gamma, const Tensor& beta,
                      Tensor running_mean, Tensor running_var, bool batch, double momentum, double eps,
                      Tensor affine, Tensor statistics) {
    const Normalization n = normalization(y, bias, gamma, beta, statistics, batch, momentum, eps);
    check(running_mean, "running_mean", ScalarType::Float, n.channels);
    check(running_var, "running_var", ScalarType::Float, n.channels);
    check(affine, "affine", ScalarType::Float, 2 * n.columns());
    with_type(y, [&](auto t) {
        normalization_statistics(n, read<decltype(t)>(y), write<float>(running_mean),
                                 write<float>(running_var), write<float>(affine));
    });
}

void normalize_relu_op(const Tensor& y, const Tensor& affine, Tensor out) {
    const Matrix m = matrix(y, affine, 2);
    check(affine, "affine", ScalarType::Float, 2 * m.columns);
    check_like(out, "out", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        normalize_relu(m, read<T>(y), read<float>(affine), write<T>(out));
    });
}

void normalize_relu_backward_op(const Tensor& grad, const Tensor& y, const Tensor& affine, const Tensor& bias,
                                const Tensor& gamma, const Tensor& beta, const Tensor& statistics, bool batch,
                                Tensor grad_y, Tensor grad_bias, Tensor grad_gamma, Tensor grad_beta) {
    const Normalization n = normalization(y, bias, gamma, beta, statistics, batch, 0, 0);
    check(affine, "affine", ScalarType::Float, 2 * n.columns());
    check_like(grad, "grad", y);
    check_like(grad_y, "grad_y", y);
    const NormalizationGradients to = gradients(n, grad_bias, grad_gamma, grad_beta);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        normalize_relu_backward(n, read<T>(grad), read<T>(y), read<float>(affine), write<T>(grad_y), to);
    });
}

void block_output_op(const Tensor& y, const Tensor& affine, std::optional<Tensor> residual,
                     std::optional<Tensor> residual_affine, double dropout, int64_t seed, Tensor out) {
    const Matrix m = matrix(y, affine, 2);
    check(affine, "affine", ScalarType::Float, 2 * m.columns);
    if (residual) check_like(*residual, "residual", y);
    if (residual_affine) check(*residual_affine, "residual_affine", ScalarType::Float, 2 * m.columns);
    check_like(out, "out", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        const Branch<T> main{read<T>(y), read<float>(affine)};
        const Branch<T> past{read<T>(residual), read<float>(residual_affine)};
        block_output(m, main, past, dropout_of(dropout, seed), write<T>(out));
    });
}

// A branch's tensors, in this order: y, bias, gamma, beta, statistics; and what is written: grad_y,
// grad_bias, grad_gamma, grad_beta.
template <typename T>
BranchBackward<T> branch(const std::vector<Tensor>& from, std::vector<Tensor>& to, bool batch) {
    STD_TORCH_CHECK(from.size() == 5 && to.size() == 4, "expected 5 tensors to read and 4 to write, found ",
                    from.size(), " and ", to.size());
    const Normalization n = normalization(from[0], from[1], from[2], from[3], from[4], batch, 0, 0);
    check_like(to[0], "grad_y", from[0]);
    return {n, read<T>(from[0]), write<T>(to[0]), gradients(n, to[1], to[2], to[3])};
}

void block_output_backward_op(const Tensor& grad, const Tensor& output, std::vector<Tensor> main, bool batch,
                              std::vector<Tensor> residual, bool residual_batch, double dropout, int64_t seed,
                              std::vector<Tensor> grad_main, std::vector<Tensor> grad_residual) {
    STD_TORCH_CHECK(!main.empty(), "main: expected tensors, found none");
    const Tensor& y = main[0];
    check_like(grad, "grad", y);
    check_like(output, "output", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        const BranchBackward<T> first = branch<T>(main, grad_main, batch);
        const Dropout drop = dropout_of(dropout, seed);
        if (residual.empty()) {
            block_output_backward<T>(read<T>(grad), read<T>(output), first, nullptr, drop);
        } else {
            check_like(residual[0], "residual", y);
            const BranchBackward<T> second = branch<T>(residual, grad_residual, residual_batch);
            STD_TORCH_CHECK(second.normalization.columns() == first.normalization.columns(),
                            "residual: expected as many columns as the main branch");
            block_output_backward<T>(read<T>(grad), read<T>(output), first, &second, drop);
        }
    });
}

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY_FRAGMENT(ikem_fast, m) {
    m.def(
        "graph_forward(Tensor x, Tensor first, Tensor source, Tensor weight, int partitions, Tensor(a!) out) "
        "-> ()");
    m.def(
        "graph_backward(Tensor grad, Tensor x, Tensor? residual, Tensor? output, Tensor first, Tensor "
        "source, "
        "Tensor weight, int partitions, Tensor(a!) grad_x, Tensor(b!) grad_weight) -> ()");
    m.def(
        "graph_convolution(Tensor x, Tensor first, Tensor source, Tensor weight, int partitions, "
        "Tensor matrix, Tensor(a!) out) -> ()");
    m.def(
        "graph_convolution_backward(Tensor grad, Tensor x, Tensor? residual, Tensor? output, Tensor first, "
        "Tensor source, Tensor weight, int partitions, Tensor matrix, Tensor(a!) grad_x, "
        "Tensor(b!) grad_weight, Tensor(c!) grad_matrix) -> ()");
    m.def("temporal_convolution(Tensor y, Tensor affine, Tensor weight, int stride, Tensor(a!) out) -> ()");
    m.def(
        "temporal_convolution_backward(Tensor grad, Tensor y, Tensor affine, Tensor weight, int stride, "
        "Tensor(a!) grad_x, Tensor(b!) grad_weight) -> ()");
    m.def("temporal_weights(Tensor grad, Tensor y, Tensor affine, int stride, Tensor(a!) grad_weight) -> ()");
    m.def(
        "normalization(Tensor y, Tensor bias, Tensor gamma, Tensor beta, Tensor(a!) running_mean, "
        "Tensor(b!) running_var, bool batch, float momentum, float eps, Tensor(c!) affine, "
        "Tensor(d!) statistics) -> ()");
    m.def("normalize_relu(Tensor y, Tensor affine, Tensor(a!) out) -> ()");
    m.def(
        "normalize_relu_backward(Tensor grad, Tensor y, Tensor affine, Tensor bias, Tensor gamma, Tensor "
        "beta, "
        "Tensor statistics, bool batch, Tensor(a!) grad_y, Tensor(b!) grad_bias, Tensor(c!) grad_gamma, "
        "Tensor(d!) grad_beta) -> ()");
    m.def(
        "block_output(Tensor y, Tensor affine, Tensor? residual, Tensor? residual_affine, float dropout, "
        "int seed, Tensor(a!) out) -> ()");
    m.def(
        "block_output_backward(Tensor grad, Tensor output, Tensor[] main, bool batch, Tensor[] residual, "
        "bool residual_batch, float dropout, int seed, Tensor(a!)[] grad_main, Tensor(b!)[] grad_residual) "
        "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("graph_forward", TORCH_BOX(&ikem::graph_forward_op));
    m.impl("graph_backward", TORCH_BOX(&ikem::graph_backward_op));
    m.impl("graph_convolution", TORCH_BOX(&ikem::graph_convolution_op));
    m.impl("graph_convolution_backward", TORCH_BOX(&ikem::graph_convolution_backward_op));
    m.impl("temporal_convolution", TORCH_BOX(&ikem::temporal_convolution_op));
    m.impl("temporal_convolution_backward", TORCH_BOX(&ikem::temporal_convolution_backward_op));
    m.impl("temporal_weights", TORCH_BOX(&ikem::temporal_weights_op));
    m.impl("normalization", TORCH_BOX(&ikem::normalization_op));
    m.impl("normalize_relu", TORCH_BOX(&ikem::normalize_relu_op));
    m.impl("normalize_relu_backward", TORCH_BOX(&ikem::normalize_relu_backward_op));
    m.impl("block_output", TORCH_BOX(&ikem::block_output_op));
    m.impl("block_output_backward", TORCH_BOX(&ikem::block_output_backward_op));
}
