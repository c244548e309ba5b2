// Augment and derive on a GPU: one launch for the whole batch and all modalities asked for.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/macros.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>

#include "modalities/modalities_kernel.cuh"

namespace ikem {
namespace {

struct BlockSync {
    __device__ __forceinline__ void operator()() const { __syncthreads(); }
};

template <typename Out, int kVector>
__global__ void __launch_bounds__(kThreads, 8) derive_kernel(const __grid_constant__ Launch launch) {
    extern __shared__ __align__(16) float shared[];
    for (int64_t tile = blockIdx.x; tile < launch.tiles; tile += gridDim.x) {
        Tile<Out, kVector, BlockSync>(launch, tile, shared, threadIdx.x, kThreads, BlockSync{}).derive();
    }
}

template <typename Out, int kVector>
void launch_kernel(const Derivation& d, cudaStream_t stream) {
    const Launch launch = plan(d, kVector);
    const auto blocks = static_cast<unsigned>(std::min(launch.tiles, kMaxBlocks));
    derive_kernel<Out, kVector><<<blocks, kThreads, launch.shared_bytes, stream>>>(launch);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename Out>
void derive_to(const Derivation& d, cudaStream_t stream) {
    if (vector_width(d) == 4) return launch_kernel<Out, 4>(d, stream);
    return launch_kernel<Out, 1>(d, stream);
}

}  // namespace

void derive_on_cuda(const Derivation& d, int32_t device_index) {
    STD_TORCH_CHECK(d.joints <= kMaxJoints, "x: the CUDA kernel takes up to ", kMaxJoints, " joints, found ",
                    d.joints, "; use impl='reference'");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index, &stream));
    switch (d.out_type) {
        case ScalarType::Half:
            return derive_to<Half>(d, static_cast<cudaStream_t>(stream));
        case ScalarType::BFloat16:
            return derive_to<BFloat16>(d, static_cast<cudaStream_t>(stream));
        default:
            return derive_to<float>(d, static_cast<cudaStream_t>(stream));
    }
}

}  // namespace ikem
