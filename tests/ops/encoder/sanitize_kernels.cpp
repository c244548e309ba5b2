// Runs every kernel of csrc/encoder on buffers of exactly the size they are for, on two threads. Built by
// test_sanitized_kernels.py under sanitizers, which see an access outside a buffer, a data race or an
// overflow. Exit status: 0, or 1 where a kernel leaves a number unwritten.
#include <cmath>
#include <cstdio>
#include <memory>

#include "encoder/graph_cpu.cpp"
#include "encoder/narrow_graph_cpu.cpp"
#include "encoder/narrow_temporal_cpu.cpp"
#include "encoder/normalization_cpu.cpp"
#include "encoder/wide_temporal_cpu.cpp"
#include "products/products_cpu.cpp"

namespace {

using namespace ikem;

// Numbers on the heap, no more than asked for; NaN where nothing was written.
template <typename T>
struct Buffer {
    int64_t size;
    std::unique_ptr<T[]> numbers;

    explicit Buffer(int64_t size) : size(size), numbers(new T[size]) {
        for (int64_t i = 0; i < size; ++i) set(i, NAN);
    }
    void set(int64_t i, double value) {
        if constexpr (sizeof(T) == 2) {
            store(&numbers[i], static_cast<float>(value));
        } else {
            numbers[i] = static_cast<T>(value);
        }
    }
    double at(int64_t i) const {
        if constexpr (sizeof(T) == 2) return load(numbers[i]);
        return static_cast<double>(numbers[i]);
    }
    T* get() const { return numbers.get(); }
};

uint32_t state = 1;
double draw() {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) / (1 << 23) - 1.0;
}

template <typename T>
Buffer<T> random(int64_t size) {
    Buffer<T> buffer(size);
    for (int64_t i = 0; i < size; ++i) buffer.set(i, draw());
    return buffer;
}

bool written = true;
template <typename T>
void expect_written(const Buffer<T>& buffer, const char* name) {
    for (int64_t i = 0; i < buffer.size; ++i) {
        if (std::isfinite(buffer.at(i))) continue;
        std::printf("%s: number %lld of %lld is not finite\n", name, static_cast<long long>(i),
                    static_cast<long long>(buffer.size));
        written = false;
        return;
    }
}

struct Gradients {
    Buffer<float> bias, gamma, beta;
    Gradients(int64_t bias_numbers, int64_t channels) : bias(bias_numbers), gamma(channels), beta(channels) {}
    NormalizationGradients pointers() { return {bias.get(), gamma.get(), beta.get()}; }
    void expect() const {
        expect_written(bias, "grad_bias"), expect_written(gamma, "grad_gamma");
        expect_written(beta, "grad_beta");
    }
};

// A graph of V joints in three partitions, as the kernels take it.
struct Joints {
    static constexpr int64_t kPartitions = 3;
    Buffer<int64_t> first, source;
    Buffer<float> weight;

    explicit Joints(int64_t V) : first(V * kPartitions + 1), source(2 * V), weight(random<float>(2 * V)) {
        // Two edges into the first and last partition of each joint, at the ends of what there is.
        for (int64_t wk = 0; wk <= V * kPartitions; ++wk) {
            first.numbers[wk] = 2 * (wk / kPartitions) + (wk % kPartitions ? 1 : 0);
        }
        for (int64_t e = 0; e < 2 * V; ++e) source.numbers[e] = e % 2 ? V - 1 : 0;
    }
    Graph graph(int64_t frames, int64_t V, int64_t C) const {
        return {frames, V, C, kPartitions, 2 * V, first.get(), source.get(), weight.get()};
    }
};

template <typename T>
void run_graph(int64_t frames, int64_t V, int64_t C, bool residual) {
    const Joints joints(V);
    const Graph g = joints.graph(frames, V, C);
    const auto x = random<T>(frames * V * C), grad = random<T>(frames * V * C * Joints::kPartitions);
    const auto past = random<T>(frames * V * C), output = random<T>(frames * V * C);
    Buffer<T> out(frames * V * C * Joints::kPartitions), grad_x(frames * V * C);
    Buffer<double> grad_weight(2 * V);
    for (int64_t e = 0; e < 2 * V; ++e) grad_weight.set(e, 0);
    graph_forward(g, x.get(), out.get());
    graph_backward(g, grad.get(), x.get(), residual ? past.get() : nullptr, residual ? output.get() : nullptr,
                   grad_x.get(), grad_weight.get());
    expect_written(out, "graph_forward"), expect_written(grad_x, "graph_backward");
    expect_written(grad_weight, "grad_weight");
}

template <typename T>
void run_narrow_graph(int64_t frames, int64_t V, int64_t C, int64_t outputs, int past) {
    const Joints joints(V);
    const Graph g = joints.graph(frames, V, C);
    const auto x = random<T>(frames * V * C), grad = random<T>(frames * V * outputs);
    const auto residual = random<T>(frames * V * C), output = random<T>(frames * V * C);
    const auto matrix = random<float>(outputs * Joints::kPartitions * C);
    Buffer<T> out(grad.size), grad_x(x.size);
    Buffer<float> grad_weight(2 * V), grad_matrix(matrix.size);
    graph_convolution(g, outputs, matrix.get(), x.get(), out.get());
    graph_convolution_backward(g, outputs, matrix.get(), grad.get(), x.get(), past ? residual.get() : nullptr,
                               past == 2 ? output.get() : nullptr, grad_x.get(), grad_weight.get(),
                               grad_matrix.get());
    expect_written(out, "graph_convolution"), expect_written(grad_x, "graph_convolution_backward");
    expect_written(grad_weight, "grad_weight"), expect_written(grad_matrix, "grad_matrix");
}

template <typename T>
void run_narrow_temporal(int64_t clips, int64_t frames, int64_t V, int64_t C, int64_t taps, int64_t stride) {
    const TemporalConvolution n{clips, frames, V, C, taps, stride};
    const auto y = random<T>(clips * frames * V * C), grad = random<T>(clips * n.frames_out() * V * C);
    const auto affine = random<float>(2 * V * C), weight = random<float>(C * C * taps);
    Buffer<T> out(grad.size), grad_x(y.size);
    Buffer<float> grad_weight(weight.size), wide_grad_weight(weight.size);
    temporal_convolution(n, weight.get(), y.get(), affine.get(), out.get());
    temporal_convolution_backward(n, weight.get(), grad.get(), y.get(), affine.get(), grad_x.get(),
                                  grad_weight.get());
    temporal_weights(n, grad.get(), y.get(), affine.get(), wide_grad_weight.get());
    expect_written(wide_grad_weight, "temporal_weights");
    expect_written(out, "temporal_convolution"), expect_written(grad_x, "temporal_convolution_backward");
    expect_written(grad_weight, "grad_weight");
}

template <typename T>
struct Layer {
    Buffer<T> y, grad_y;
    Buffer<float> bias, gamma, beta, mean, variance, affine;
    Buffer<double> statistics;
    Gradients gradients;
    Normalization n;

    Layer(int64_t frames, int64_t V, int64_t C, bool shared, bool batch)
        : y(random<T>(frames * V * C)),
          grad_y(frames * V * C),
          bias(random<float>(shared ? C : V * C)),
          gamma(random<float>(C)),
          beta(random<float>(C)),
          mean(random<float>(C)),
          variance(C),
          affine(2 * V * C),
          statistics((2 + V) * C),
          gradients(bias.size, C),
          n{frames, V,          C,           shared ? 1 : V, batch,           1e-5,
            0.1,    bias.get(), gamma.get(), beta.get(),     statistics.get()} {
        for (int64_t c = 0; c < C; ++c) variance.set(c, 1);
        normalization_statistics(n, y.get(), mean.get(), variance.get(), affine.get());
        expect_written(affine, "affine"), expect_written(statistics, "statistics");
    }
    BranchBackward<T> backward() { return {n, y.get(), grad_y.get(), gradients.pointers()}; }
};

template <typename T>
void run_block(int64_t frames, int64_t V, int64_t C, bool batch, bool dropout, int residual) {
    Layer<T> first(frames, V, C, false, batch), second(frames, V, C, true, batch);
    Layer<T> third(frames, V, C, true, batch);
    const Matrix m{frames, V * C};
    const Dropout drop{7, 1u << 31, 2.0f, dropout};
    Buffer<T> hidden(frames * V * C), out(frames * V * C);
    const auto grad = random<T>(frames * V * C);
    normalize_relu(m, first.y.get(), first.affine.get(), hidden.get());
    normalize_relu_backward(first.n, grad.get(), first.y.get(), first.affine.get(), first.grad_y.get(),
                            first.gradients.pointers());
    const Branch<T> past{residual ? third.y.get() : nullptr, residual == 2 ? third.affine.get() : nullptr};
    block_output<T>(m, {second.y.get(), second.affine.get()}, past, drop, out.get());
    const BranchBackward<T> main = second.backward(), other = third.backward();
    block_output_backward<T>(grad.get(), out.get(), main, residual == 2 ? &other : nullptr, drop);
    expect_written(hidden, "normalize_relu"), expect_written(out, "block_output");
    expect_written(first.grad_y, "normalize_relu_backward"), first.gradients.expect();
    expect_written(second.grad_y, "block_output_backward"), second.gradients.expect();
    if (residual == 2) expect_written(third.grad_y, "residual"), third.gradients.expect();
}

template <typename T>
void run() {
    for (const int64_t frames : {1, 129}) {
        for (const int64_t joints : {1, 25}) {
            for (const int64_t channels : {1, 3, 7, 16}) {
                for (const int flags : {0, 5, 11}) {
                    run_graph<T>(frames, joints, channels, flags & 1);
                    run_block<T>(frames, joints, channels, flags & 1, flags & 2, flags / 4);
                }
            }
        }
    }
    // More frames, or joints' ways, than one block of sums; rows and columns that are left over.
    for (const int past : {0, 1, 2}) run_narrow_graph<T>(past ? 17 : 129, 4, 3 + past, 6 - past, past);
    run_narrow_temporal<T>(33, 4, 4, 3, 9, 1);
    for (const int64_t stride : {1, 2, 11}) run_narrow_temporal<T>(3, 19, 6, 6, 5, stride);
    run_narrow_temporal<T>(1, 1, 1, 1, 1, 1);
}

}  // namespace

int main() {
    run<float>();
    run<uint16_t>();
    return written ? 0 : 1;
}
