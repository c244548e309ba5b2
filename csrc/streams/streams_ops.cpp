// Computes the ops of ikem_fast/ops/streams/native.py for CPU tensors. Arguments have been checked by
// ikem_fast.ops.streams.api; what is checked here again is what memory safety rests on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <tuple>
#include <vector>

#include "streams/streams.h"

namespace ikem {
namespace {

using torch::stable::Tensor;

Streams streams_of(const Tensor& x, const std::vector<int64_t>& parents) {
    const ScalarType type = x.scalar_type();
    STD_TORCH_CHECK(x.dim() == 3 && (type == ScalarType::Float || type == ScalarType::Double ||
                                     type == ScalarType::Half || type == ScalarType::BFloat16),
                    "x: expected a floating-point tensor (sequences, frames, width)");
    const int64_t width = x.size(2);
    STD_TORCH_CHECK(static_cast<int64_t>(parents.size()) == width, "parents: expected ", width, " columns");
    for (const int64_t parent : parents) {
        STD_TORCH_CHECK(-1 <= parent && parent < width, "parents: expected columns −1 … ", width - 1);
    }
    return {x.size(0), x.size(1), width, parents.data(), type};
}

std::tuple<Tensor, Tensor> streams_op(const Tensor& x, std::vector<int64_t> parents, bool bone, bool motion) {
    const Streams s = streams_of(x, parents);
    const Tensor rows = torch::stable::contiguous(x);
    const auto result = [&](bool wanted) {
        return wanted ? torch::stable::new_empty(x, {s.sequences, s.frames, s.width})
                      : torch::stable::new_empty(x, {0});
    };
    Tensor bones = result(bone), motions = result(motion);
    if (rows.numel() > 0) {
        streams_forward(s, rows.const_data_ptr(), bone ? bones.mutable_data_ptr() : nullptr,
                        motion ? motions.mutable_data_ptr() : nullptr);
    }
    return {bones, motions};
}

Tensor streams_backward_op(const std::optional<Tensor>& joint, const std::optional<Tensor>& bone,
                           const std::optional<Tensor>& motion, std::vector<int64_t> parents) {
    const std::optional<Tensor> given[3] = {joint, bone, motion};
    const Tensor* like = nullptr;
    for (const auto& one : given) {
        if (one) like = &*one;
    }
    STD_TORCH_CHECK(like != nullptr, "joint, bone, motion: expected one gradient at least");
    const Streams s = streams_of(*like, parents);
    std::vector<Tensor> kept;
    const void* pointers[3] = {};
    for (int i = 0; i < 3; ++i) {
        if (!given[i]) continue;
        STD_TORCH_CHECK(given[i]->scalar_type() == s.type && given[i]->dim() == 3 &&
                            given[i]->size(0) == s.sequences && given[i]->size(1) == s.frames &&
                            given[i]->size(2) == s.width,
                        "joint, bone, motion: expected gradients of one shape and dtype");
        kept.push_back(torch::stable::contiguous(*given[i]));
        pointers[i] = kept.back().const_data_ptr();
    }
    Tensor gradient = torch::stable::new_empty(*like, {s.sequences, s.frames, s.width});
    if (gradient.numel() > 0) {
        streams_backward(s, pointers[0], pointers[1], pointers[2], gradient.mutable_data_ptr());
    }
    return gradient;
}

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY_FRAGMENT(ikem_fast, m) {
    m.def("streams(Tensor x, int[] parents, bool bone, bool motion) -> (Tensor, Tensor)");
    m.def("streams_backward(Tensor? joint, Tensor? bone, Tensor? motion, int[] parents) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("streams", TORCH_BOX(&ikem::streams_op));
    m.impl("streams_backward", TORCH_BOX(&ikem::streams_backward_op));
}
