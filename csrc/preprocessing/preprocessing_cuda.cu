// Preprocessing on a GPU: a block a clip, one launch for the whole ragged batch.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/macros.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>

#include "preprocessing/preprocessing_batch.h"

namespace ikem {
namespace {

constexpr int kBlock = 128;
constexpr int64_t kMostBlocks = int64_t{1} << 30;  // blocks take further clips in turn

struct Block {
    __device__ __forceinline__ void operator()() const { __syncthreads(); }
};

template <typename Real>
__global__ void __launch_bounds__(kBlock) preprocess_kernel(const __grid_constant__ RawBatch batch) {
    for (int64_t n = blockIdx.x; n < batch.clips; n += gridDim.x) {
        preprocess<Real>(batch, n, threadIdx.x, kBlock, Block{});
    }
}

}  // namespace

void preprocess_on_cuda(const RawBatch& batch, int32_t device_index) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index, &current));
    const auto stream = static_cast<cudaStream_t>(current);
    const auto blocks = static_cast<unsigned>(std::min(batch.clips, kMostBlocks));
    if (batch.x_is_double) {
        preprocess_kernel<double><<<blocks, kBlock, 0, stream>>>(batch);
    } else {
        preprocess_kernel<float><<<blocks, kBlock, 0, stream>>>(batch);
    }
    STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace ikem
