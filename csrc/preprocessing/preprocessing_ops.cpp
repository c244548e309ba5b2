// Registers ikem_fast::preprocess_clips, as ops.cpp does the derivation. Arguments have been checked by
// ikem_fast.ops.api; what is checked here again is what memory safety rests on.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>

#include "preprocessing/preprocessing_batch.h"

namespace ikem {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Results {
    RawBatch batch;
    Tensor clips, true_frames, source, poses;
};

Results prepare(const Tensor& x, const Tensor& starts, const Tensor& lengths, int64_t frames, int64_t root,
                int64_t right, int64_t left) {
    STD_TORCH_CHECK(x.dim() == 4 && x.size(0) == 3 &&
                        (x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double),
                    "raw: expected a float32 or float64 tensor (3,F,V,M)");
    for (const Tensor* tensor : {&starts, &lengths}) {
        STD_TORCH_CHECK(tensor->dim() == 1 && tensor->size(0) == lengths.size(0) && tensor->is_contiguous() &&
                            tensor->scalar_type() == ScalarType::Long && tensor->device() == x.device(),
                        "lengths: expected a contiguous int64 tensor (N,) on the device of raw");
    }
    STD_TORCH_CHECK(frames >= 1, "frames: expected at least 1, found ", frames);
    for (const int64_t joint : {root, right, left}) {
        STD_TORCH_CHECK(0 <= joint && joint < x.size(2), "root, shoulders: expected joints of 0 … ",
                        x.size(2) - 1, ", found ", joint);
    }
    RawBatch batch{};
    batch.shared = {frames, x.size(2), x.size(3), root, right, left};
    batch.clips = lengths.size(0), batch.total = x.size(1);
    batch.x = x.const_data_ptr(), batch.x_is_double = x.scalar_type() == ScalarType::Double;
    for (int i = 0; i < 4; ++i) batch.stride[i] = x.stride(i);
    batch.starts = starts.const_data_ptr<int64_t>(), batch.lengths = lengths.const_data_ptr<int64_t>();

    const auto pose_bytes =
        static_cast<int64_t>(batch.x_is_double ? sizeof(Pose<double>) : sizeof(Pose<float>));
    using torch::stable::new_empty;
    Results results{batch, new_empty(x, {batch.clips, 3, frames, x.size(2), x.size(3)}, ScalarType::Float),
                    new_empty(x, {batch.clips}, ScalarType::Long),
                    new_empty(x, {batch.total + batch.clips}, ScalarType::Int),
                    new_empty(x, {batch.clips * frames * x.size(3) * pose_bytes}, ScalarType::Byte)};
    results.batch.out = static_cast<float*>(results.clips.mutable_data_ptr());
    results.batch.true_frames = static_cast<int64_t*>(results.true_frames.mutable_data_ptr());
    results.batch.source = static_cast<int32_t*>(results.source.mutable_data_ptr());
    results.batch.poses = results.poses.mutable_data_ptr();
    return results;
}

std::tuple<Tensor, Tensor> preprocess_clips_cpu(const Tensor& x, const Tensor& starts, const Tensor& lengths,
                                                int64_t frames, int64_t root, int64_t right, int64_t left) {
    const Results results = prepare(x, starts, lengths, frames, root, right, left);
    const RawBatch& batch = results.batch;
    torch::stable::parallel_for(0, batch.clips, 1, [&](int64_t begin, int64_t end) {
        const auto alone = [] {};
        for (int64_t n = begin; n < end; ++n) {
            batch.x_is_double ? preprocess<double>(batch, n, 0, 1, alone)
                              : preprocess<float>(batch, n, 0, 1, alone);
        }
    });
    return {results.clips, results.true_frames};
}

#ifdef IKEM_WITH_CUDA
std::tuple<Tensor, Tensor> preprocess_clips_cuda(const Tensor& x, const Tensor& starts, const Tensor& lengths,
                                                 int64_t frames, int64_t root, int64_t right, int64_t left) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    const Results results = prepare(x, starts, lengths, frames, root, right, left);
    if (results.batch.clips > 0) preprocess_on_cuda(results.batch, x.get_device_index());
    return {results.clips, results.true_frames};
}
#endif

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY_FRAGMENT(ikem_fast, m) {
    m.def(
        "preprocess_clips(Tensor raw, Tensor starts, Tensor lengths, int frames, int root, int right, "
        "int left) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("preprocess_clips", TORCH_BOX(&ikem::preprocess_clips_cpu));
}

#ifdef IKEM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CUDA, m) {
    m.impl("preprocess_clips", TORCH_BOX(&ikem::preprocess_clips_cuda));
}
#endif
