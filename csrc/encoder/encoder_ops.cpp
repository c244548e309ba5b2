// Registers the kernels of encoder.h with torch, for CPU tensors. They write into tensors that the caller
// (ikem_fast/ops/encoder/fused_block.py) made; what is checked here is what memory safety rests on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <optional>
#include <type_traits>

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
    check(first, "first", ScalarType::Long, V * partitions + 1);
    check(source, "source", ScalarType::Long, edges);
    check(weight, "weight", ScalarType::Float, edges);
    return {V * C ? x.numel() / (V * C) : 0,
            V,
            C,
            partitions,
            edges,
            read<int64_t>(first),
            read<int64_t>(source),
            read<float>(weight)};
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

void graph_backward_op(const Tensor& grad, const Tensor& x, std::optional<Tensor> residual,
                       std::optional<Tensor> output, const Tensor& first, const Tensor& source,
                       const Tensor& weight, int64_t partitions, Tensor grad_x, Tensor grad_weight) {
    const Graph g = graph(x, first, source, weight, partitions);
    check(grad, "grad", x.scalar_type(), x.numel() * partitions);
    check_like(grad_x, "grad_x", x);
    check(grad_weight, "grad_weight", ScalarType::Double, g.edges);
    STD_TORCH_CHECK(residual.has_value() == output.has_value(), "residual: expected together with output");
    if (residual) check_like(*residual, "residual", x), check_like(*output, "output", x);
    with_type(x, [&](auto t) {
        using T = decltype(t);
        graph_backward(g, read<T>(grad), read<T>(x), read<T>(residual), read<T>(output), write<T>(grad_x),
                       write<double>(grad_weight));
    });
}

void column_sums_op(const Tensor& y, Tensor sums) {
    const Matrix m = matrix(y, sums, 2);
    check(sums, "sums", ScalarType::Double, 2 * m.columns);
    with_type(y, [&](auto t) { column_sums(m, read<decltype(t)>(y), write<double>(sums)); });
}

void normalise_relu_op(const Tensor& y, const Tensor& scale, const Tensor& shift, Tensor out) {
    const Matrix m = matrix(y, scale);
    check(scale, "scale", ScalarType::Float, m.columns), check(shift, "shift", ScalarType::Float, m.columns);
    check_like(out, "out", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        normalise_relu(m, read<T>(y), read<float>(scale), read<float>(shift), write<T>(out));
    });
}

void normalise_relu_sums_op(const Tensor& grad, const Tensor& y, const Tensor& scale, const Tensor& shift,
                            Tensor sums) {
    const Matrix m = matrix(y, scale);
    check(scale, "scale", ScalarType::Float, m.columns), check(shift, "shift", ScalarType::Float, m.columns);
    check_like(grad, "grad", y), check(sums, "sums", ScalarType::Double, 2 * m.columns);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        normalise_relu_sums(m, read<T>(grad), read<T>(y), read<float>(scale), read<float>(shift),
                            write<double>(sums));
    });
}

void normalise_relu_backward_op(const Tensor& grad, const Tensor& y, const Tensor& scale, const Tensor& shift,
                                const Tensor& coefficients, Tensor grad_y) {
    const Matrix m = matrix(y, scale);
    check(scale, "scale", ScalarType::Float, m.columns), check(shift, "shift", ScalarType::Float, m.columns);
    check(coefficients, "coefficients", ScalarType::Float, 3 * m.columns);
    check_like(grad, "grad", y), check_like(grad_y, "grad_y", y);
    const float* abc = read<float>(coefficients);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        normalise_relu_backward(m, read<T>(grad), read<T>(y), read<float>(scale), read<float>(shift), abc,
                                abc + m.columns, abc + 2 * m.columns, write<T>(grad_y));
    });
}

void block_output_op(const Tensor& y, const Tensor& scale, const Tensor& shift,
                     std::optional<Tensor> residual, std::optional<Tensor> residual_scale,
                     std::optional<Tensor> residual_shift, double dropout, int64_t seed, Tensor out) {
    const Matrix m = matrix(y, scale);
    check(scale, "scale", ScalarType::Float, m.columns), check(shift, "shift", ScalarType::Float, m.columns);
    STD_TORCH_CHECK(residual_scale.has_value() == residual_shift.has_value(),
                    "residual_scale: expected together with residual_shift");
    if (residual) check_like(*residual, "residual", y);
    if (residual_scale) {
        check(*residual_scale, "residual_scale", ScalarType::Float, m.columns);
        check(*residual_shift, "residual_shift", ScalarType::Float, m.columns);
    }
    check_like(out, "out", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        const Branch<T> main{read<T>(y), read<float>(scale), read<float>(shift)};
        const Branch<T> past{read<T>(residual), read<float>(residual_scale), read<float>(residual_shift)};
        block_output(m, main, past, dropout_of(dropout, seed), write<T>(out));
    });
}

void block_output_sums_op(const Tensor& grad, const Tensor& output, const Tensor& y,
                          std::optional<Tensor> residual, double dropout, int64_t seed, Tensor sums) {
    const Matrix m = matrix(y, sums, residual ? 4 : 2);
    check(sums, "sums", ScalarType::Double, (residual ? 4 : 2) * m.columns);
    check_like(grad, "grad", y), check_like(output, "output", y);
    if (residual) check_like(*residual, "residual", y);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        block_output_sums(m, read<T>(grad), read<T>(output), read<T>(y), read<T>(residual),
                          dropout_of(dropout, seed), write<double>(sums));
    });
}

void block_output_backward_op(const Tensor& grad, const Tensor& output, const Tensor& y,
                              const Tensor& coefficients, double dropout, int64_t seed, Tensor grad_y) {
    const Matrix m = matrix(y, coefficients, 3);
    check(coefficients, "coefficients", ScalarType::Float, 3 * m.columns);
    check_like(grad, "grad", y), check_like(output, "output", y), check_like(grad_y, "grad_y", y);
    const float* abc = read<float>(coefficients);
    with_type(y, [&](auto t) {
        using T = decltype(t);
        block_output_backward(m, read<T>(grad), read<T>(output), read<T>(y), abc, abc + m.columns,
                              abc + 2 * m.columns, dropout_of(dropout, seed), write<T>(grad_y));
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
    m.def("column_sums(Tensor y, Tensor(a!) sums) -> ()");
    m.def("normalise_relu(Tensor y, Tensor scale, Tensor shift, Tensor(a!) out) -> ()");
    m.def("normalise_relu_sums(Tensor grad, Tensor y, Tensor scale, Tensor shift, Tensor(a!) sums) -> ()");
    m.def(
        "normalise_relu_backward(Tensor grad, Tensor y, Tensor scale, Tensor shift, Tensor coefficients, "
        "Tensor(a!) grad_y) -> ()");
    m.def(
        "block_output(Tensor y, Tensor scale, Tensor shift, Tensor? residual, Tensor? residual_scale, "
        "Tensor? residual_shift, float dropout, int seed, Tensor(a!) out) -> ()");
    m.def(
        "block_output_sums(Tensor grad, Tensor output, Tensor y, Tensor? residual, float dropout, int seed, "
        "Tensor(a!) sums) -> ()");
    m.def(
        "block_output_backward(Tensor grad, Tensor output, Tensor y, Tensor coefficients, float dropout, "
        "int seed, Tensor(a!) grad_y) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("graph_forward", TORCH_BOX(&ikem::graph_forward_op));
    m.impl("graph_backward", TORCH_BOX(&ikem::graph_backward_op));
    m.impl("column_sums", TORCH_BOX(&ikem::column_sums_op));
    m.impl("normalise_relu", TORCH_BOX(&ikem::normalise_relu_op));
    m.impl("normalise_relu_sums", TORCH_BOX(&ikem::normalise_relu_sums_op));
    m.impl("normalise_relu_backward", TORCH_BOX(&ikem::normalise_relu_backward_op));
    m.impl("block_output", TORCH_BOX(&ikem::block_output_op));
    m.impl("block_output_sums", TORCH_BOX(&ikem::block_output_sums_op));
    m.impl("block_output_backward", TORCH_BOX(&ikem::block_output_backward_op));
}
