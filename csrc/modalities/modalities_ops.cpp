// Registers the ops of namespace ikem_fast with torch, through its stable ABI: one binary for torch ≥ 2.11.
// Arguments have been checked by ikem_fast.ops.api; what is checked here again is what memory safety rests
// on.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "modalities/derivation.h"

namespace ikem {
namespace {

using torch::stable::Tensor;

bool is_supported(ScalarType type) {
    return type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16;
}

void check_clip_argument(const std::optional<Tensor>& tensor, const char* name, const Tensor& x) {
    if (!tensor) return;
    STD_TORCH_CHECK(tensor->is_contiguous() && tensor->device() == x.device() && tensor->dim() >= 1 &&
                        tensor->size(0) == x.size(0),
                    name, ": expected a contiguous tensor on the device of x, a row for each of ", x.size(0),
                    " clips");
}

void check_joints(const std::vector<int64_t>& table, size_t size, const char* name, int64_t joints) {
    STD_TORCH_CHECK(table.size() == size && std::all_of(table.begin(), table.end(),
                                                        [&](int64_t v) { return 0 <= v && v < joints; }),
                    name, ": expected ", size, " joints of 0 … ", joints - 1);
}

// The request as kernels understand it. `parents` and `axis_parents` are borrowed.
Derivation describe(const Tensor& x, const std::optional<Tensor>& frames, const std::optional<Tensor>& shear,
                    const std::optional<Tensor>& crop_start, const std::vector<int64_t>& modalities,
                    const std::vector<int64_t>& parents, const std::vector<int64_t>& axis_parents,
                    const std::vector<int64_t>& torso, ScalarType out_type) {
    STD_TORCH_CHECK(x.dim() == 5 && x.size(1) == 3 && x.is_contiguous() && is_supported(x.scalar_type()),
                    "x: expected a contiguous float32, float16 or bfloat16 tensor (N,3,T,V,M)");
    STD_TORCH_CHECK(is_supported(out_type), "out_dtype: expected float32, float16 or bfloat16");
    STD_TORCH_CHECK(1 <= modalities.size() && modalities.size() <= kModalities,
                    "modalities: expected 1 … 6, found ", modalities.size());
    const int64_t V = x.size(3);
    check_joints(parents, V, "parents", V);
    check_joints(axis_parents, V, "axis_parents", V);
    check_joints(torso, 3, "torso", V);
    check_clip_argument(frames, "frames", x);
    check_clip_argument(shear, "shear", x);
    check_clip_argument(crop_start, "crop_start", x);
    STD_TORCH_CHECK(
        !frames || frames->scalar_type() == ScalarType::Long || frames->scalar_type() == ScalarType::Float,
        "frames: expected int64 or float32");
    STD_TORCH_CHECK(!shear || (shear->scalar_type() == ScalarType::Float && shear->numel() == x.size(0) * 9),
                    "shear: expected float32 (N,3,3)");
    STD_TORCH_CHECK(!crop_start || crop_start->scalar_type() == ScalarType::Long,
                    "crop_start: expected int64");

    Derivation d{};
    d.clips = x.size(0), d.frames = x.size(2), d.joints = V, d.bodies = x.size(4);
    d.x = x.const_data_ptr(), d.x_type = x.scalar_type();
    if (frames) {
        d.original_frames = frames->const_data_ptr();
        d.original_frames_are_int = frames->scalar_type() == ScalarType::Long;
    }
    if (shear) d.matrix = shear->const_data_ptr<float>();
    if (crop_start) d.crop_start = crop_start->const_data_ptr<int64_t>();
    d.num_modalities = static_cast<int32_t>(modalities.size());
    for (size_t p = 0; p < modalities.size(); ++p) {
        STD_TORCH_CHECK(0 <= modalities[p] && modalities[p] < kModalities,
                        "modalities: expected 0 … 5, found ", modalities[p]);
        d.modality[p] = static_cast<int32_t>(modalities[p]);
    }
    d.parents = parents.data(), d.axis_parents = axis_parents.data();
    std::copy(torso.begin(), torso.end(), d.torso);
    d.root = -1;  // the first of the roots: other roots' bones are zero
    for (int64_t v = V; v-- > 0;) {
        if (parents[v] == v) d.root = static_cast<int32_t>(v);
    }
    STD_TORCH_CHECK(d.root >= 0, "parents: expected a root, a joint that is its own parent");
    d.out_type = out_type;
    return d;
}

Tensor new_result(const Tensor& x, const Derivation& d) {
    return torch::stable::new_empty(x, {d.num_modalities, d.clips, 3, d.frames, d.joints, d.bodies},
                                    d.out_type);
}

Tensor derive_modalities_cpu(const Tensor& x, std::optional<Tensor> frames, std::optional<Tensor> shear,
                             std::optional<Tensor> crop_start, std::vector<int64_t> modalities,
                             std::vector<int64_t> parents, std::vector<int64_t> axis_parents,
                             std::vector<int64_t> torso, ScalarType out_type) {
    Derivation d = describe(x, frames, shear, crop_start, modalities, parents, axis_parents, torso, out_type);
    Tensor result = new_result(x, d);
    d.out = result.mutable_data_ptr();
    if (result.numel() > 0) derive_on_cpu(d);
    return result;
}

#ifdef IKEM_WITH_CUDA
Tensor derive_modalities_cuda(const Tensor& x, std::optional<Tensor> frames, std::optional<Tensor> shear,
                              std::optional<Tensor> crop_start, std::vector<int64_t> modalities,
                              std::vector<int64_t> parents, std::vector<int64_t> axis_parents,
                              std::vector<int64_t> torso, ScalarType out_type) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    Derivation d = describe(x, frames, shear, crop_start, modalities, parents, axis_parents, torso, out_type);
    Tensor result = new_result(x, d);
    d.out = result.mutable_data_ptr();
    if (result.numel() > 0) derive_on_cuda(d, x.get_device_index());
    return result;
}
#endif

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY(ikem_fast, m) {
    m.def(
        "derive_modalities(Tensor x, Tensor? frames, Tensor? shear, Tensor? crop_start, int[] modalities, "
        "int[] parents, int[] axis_parents, int[] torso, ScalarType out_dtype) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("derive_modalities", TORCH_BOX(&ikem::derive_modalities_cpu));
}

#ifdef IKEM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CUDA, m) {
    m.impl("derive_modalities", TORCH_BOX(&ikem::derive_modalities_cuda));
}
#endif
