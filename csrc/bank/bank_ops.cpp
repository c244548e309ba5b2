// Computes the ops of the bank (ikem_fast/ops/bank/library.py defines them) for CPU tensors. Arguments have
// been checked by ikem_fast.ops.bank.api; what is checked here again is what memory safety rests on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "bank/bank.h"

namespace ikem {
namespace {

using torch::stable::Tensor;

bool is_supported(ScalarType type) {
    return type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16;
}

Bank bank_of(const Tensor& queue) {
    STD_TORCH_CHECK(queue.dim() == 3 && is_supported(queue.scalar_type()),
                    "queue: expected a float32, float16 or bfloat16 tensor (P,K,D)");
    STD_TORCH_CHECK(queue.size(0) > 0 && queue.size(2) > 0 && queue.size(1) > 0 &&
                        queue.size(1) <= std::numeric_limits<int32_t>::max(),
                    "queue: expected 1 … 2³¹ − 1 keys of at least one number");
    return {queue.const_data_ptr(), queue.scalar_type(), queue.size(0),
            queue.size(1),          queue.size(2),       {queue.stride(0), queue.stride(1), queue.stride(2)}};
}

Tensor plain(const Tensor& tensor) {
    return torch::stable::contiguous(torch::stable::to(tensor, ScalarType::Float));
}

const float* read(const Tensor& tensor) { return tensor.const_data_ptr<float>(); }

// x and y must be plain, and outlive the result.
Features features_of(const Tensor& x, const Tensor& y, const Bank& bank, bool wide) {
    const int64_t chunks = wide ? bank.modalities : 1;
    STD_TORCH_CHECK(y.dim() == 3 && y.size(0) == bank.modalities && y.size(2) == bank.dim,
                    "y: expected (P=", bank.modalities, ",N,D=", bank.dim, ")");
    STD_TORCH_CHECK(x.dim() == 3 && x.size(1) == y.size(1) && x.size(2) == chunks * bank.dim &&
                        (wide || x.size(0) == bank.modalities),
                    "x: expected (·,N=", y.size(1), ",", chunks * bank.dim, ")");
    return {read(x), read(y), x.size(0), x.size(1), chunks};
}

Tensor new_float(const Tensor& like, std::initializer_list<int64_t> size) {
    return torch::stable::new_empty(like, size, ScalarType::Float);
}

std::tuple<Tensor, Tensor> attention_op(const Tensor& x, const Tensor& y, const Tensor& queue,
                                        double temperature, bool wide, bool with_direction) {
    const Bank bank = bank_of(queue);
    const Tensor rows = plain(x), keys = plain(y);
    const Features f = features_of(rows, keys, bank, wide);
    Tensor loss = new_float(x, {f.features, f.clips});
    Tensor direction =
        with_direction ? new_float(x, {f.features, f.clips, f.chunks * bank.dim}) : new_float(x, {0});
    attention(bank, f, temperature, loss.mutable_data_ptr<float>(),
              with_direction ? direction.mutable_data_ptr<float>() : nullptr);
    return {loss, direction};
}

// Rows x (P, N, D) of the bank's modalities.
void check_rows(const Tensor& x, const Bank& bank, const char* name) {
    STD_TORCH_CHECK(x.dim() == 3 && x.size(0) == bank.modalities && x.size(2) == bank.dim, name,
                    ": expected (P=", bank.modalities, ",N,D=", bank.dim, ")");
}

std::tuple<Tensor, Tensor, Tensor> softmax_op(const Tensor& x, const Tensor& queue,
                                              std::optional<Tensor> limits, bool with_mean) {
    const Bank bank = bank_of(queue);
    check_rows(x, bank, "x");
    const int64_t P = x.size(0), N = x.size(1), D = x.size(2);
    STD_TORCH_CHECK(!limits || (limits->dim() == 2 && limits->size(0) == P && limits->size(1) == N),
                    "limits: expected (P=", P, ",N=", N, ")");
    const Tensor rows = plain(x);
    const Tensor counted = limits ? plain(*limits) : rows;
    Tensor partition = new_float(x, {P, N});
    Tensor mean = with_mean ? new_float(x, {P, N, D}) : new_float(x, {0});
    Tensor above = torch::stable::new_empty(x, limits ? std::vector<int64_t>{P, N} : std::vector<int64_t>{0},
                                            ScalarType::Long);
    softmax(bank, read(rows), N, limits ? read(counted) : nullptr, partition.mutable_data_ptr<float>(),
            with_mean ? mean.mutable_data_ptr<float>() : nullptr,
            limits ? above.mutable_data_ptr<int64_t>() : nullptr);
    return {partition, mean, above};
}

std::tuple<Tensor, Tensor> neighbor_divergence_op(const Tensor& student, const Tensor& teacher,
                                                  const Tensor& student_queue, const Tensor& teacher_queue,
                                                  int64_t topk, bool with_direction) {
    const Bank own = bank_of(student_queue), guide = bank_of(teacher_queue);
    check_rows(student, own, "student");
    check_rows(teacher, guide, "teacher");
    const int64_t P = student.size(0), N = student.size(1), D = student.size(2);
    STD_TORCH_CHECK(own.modalities == guide.modalities && own.size == guide.size && teacher.size(1) == N,
                    "teacher: expected as many modalities, clips and keys as the student has");
    STD_TORCH_CHECK(1 <= topk && topk <= own.size, "topk: expected 1 … ", own.size, ", found ", topk);
    const Tensor rows = plain(student), guides = plain(teacher);
    Tensor loss = new_float(student, {P, N});
    Tensor direction = with_direction ? new_float(student, {P, N, D}) : new_float(student, {0});
    neighbor_divergence(own, guide, read(rows), read(guides), N, topk, loss.mutable_data_ptr<float>(),
                        with_direction ? direction.mutable_data_ptr<float>() : nullptr);
    return {loss, direction};
}

// Borrows from x and y, which must be plain.
Relations relations_of(const Tensor& x, const Tensor& y, const Tensor& queue, double temperature, bool wide,
                       int64_t topk, bool context) {
    const Bank bank = bank_of(queue);
    STD_TORCH_CHECK(1 <= topk && topk <= bank.size, "topk: expected 1 … ", bank.size, ", found ", topk);
    STD_TORCH_CHECK(wide || bank.modalities > 1, "x: expected at least two modalities");
    return {bank, features_of(x, y, bank, wide), temperature, wide, topk, context};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> relations_op(const Tensor& x, const Tensor& y,
                                                                const Tensor& queue, double temperature,
                                                                bool wide, int64_t topk, bool context) {
    const Tensor rows = plain(x), keys = plain(y);
    const Relations r = relations_of(rows, keys, queue, temperature, wide, topk, context);
    const int64_t A = r.f.features, B = r.anchors(), N = r.f.clips;
    Tensor loss = new_float(x, {A, N}), partition = new_float(x, {A, B, N});
    Tensor scores = new_float(x, {A, B, N, topk}), values = new_float(x, {B, N, topk});
    Tensor mined = torch::stable::new_empty(x, {B, N, topk}, ScalarType::Long);
    relations(r, loss.mutable_data_ptr<float>(), partition.mutable_data_ptr<float>(),
              scores.mutable_data_ptr<float>(), mined.mutable_data_ptr<int64_t>(),
              values.mutable_data_ptr<float>());
    return {loss, partition, scores, mined, values};
}

Tensor relations_backward_op(const Tensor& grad, const Tensor& x, const Tensor& y, const Tensor& queue,
                             const Tensor& partition, const Tensor& scores, const Tensor& mined,
                             const Tensor& values, double temperature, bool wide, int64_t topk,
                             bool context) {
    const Tensor rows = plain(x), keys = plain(y), slopes = plain(grad);
    const Relations r = relations_of(rows, keys, queue, temperature, wide, topk, context);
    const int64_t A = r.f.features, B = r.anchors(), N = r.f.clips;
    const auto check = [](const Tensor& tensor, const char* name, ScalarType type, int64_t numel) {
        STD_TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == type && tensor.numel() == numel,
                        name, ": expected what the forward pass left, ", numel, " numbers, found ",
                        tensor.numel());
    };
    check(slopes, "grad", ScalarType::Float, A * N);
    check(partition, "partition", ScalarType::Float, A * B * N);
    check(scores, "scores", ScalarType::Float, A * B * N * topk);
    check(mined, "mined", ScalarType::Long, B * N * topk);
    check(values, "values", ScalarType::Float, B * N * topk);
    for (int64_t i = 0; i < mined.numel(); ++i) {
        const int64_t key = mined.const_data_ptr<int64_t>()[i];
        STD_TORCH_CHECK(0 <= key && key < r.bank.size, "mined: expected keys of 0 … ", r.bank.size - 1);
    }
    Tensor gradient = new_float(x, {A, N, r.f.chunks * r.bank.dim});
    relations_backward(r, read(slopes), read(partition), read(scores), mined.const_data_ptr<int64_t>(),
                       read(values), gradient.mutable_data_ptr<float>());
    return torch::stable::to(gradient, x.scalar_type());
}

std::tuple<Tensor, Tensor> nearest_op(const Tensor& q, const Tensor& queue, int64_t topk) {
    const Bank bank = bank_of(queue);
    STD_TORCH_CHECK(1 <= topk && topk <= bank.size, "topk: expected 1 … ", bank.size, ", found ", topk);
    check_rows(q, bank, "q");
    const Tensor rows = plain(q);
    Tensor values = new_float(q, {q.size(0), q.size(1), topk});
    Tensor indices = torch::stable::new_empty(q, {q.size(0), q.size(1), topk}, ScalarType::Long);
    nearest(bank, read(rows), q.size(1), topk, values.mutable_data_ptr<float>(),
            indices.mutable_data_ptr<int64_t>());
    return {values, indices};
}

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("attention", TORCH_BOX(&ikem::attention_op));
    m.impl("relations", TORCH_BOX(&ikem::relations_op));
    m.impl("relations_backward", TORCH_BOX(&ikem::relations_backward_op));
    m.impl("softmax", TORCH_BOX(&ikem::softmax_op));
    m.impl("neighbor_divergence", TORCH_BOX(&ikem::neighbor_divergence_op));
    m.impl("nearest", TORCH_BOX(&ikem::nearest_op));
}
