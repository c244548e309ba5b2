// Registers the kernels of dropout.h with torch, for CPU tensors whose elements lie side by side in any order
// of dimensions, which is that of the draws. Arguments have been checked by ikem_fast.ops.dropout.api; what
// is checked here is what memory safety rests on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "dropout/dropout.h"

namespace ikem {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The bytes of torch's generator for CPUs, as `torch.Generator.get_state` gives them.
struct State {
    uint64_t seed;
    int32_t left, seeded;  // left: draws until all numbers are made anew, and one
    uint64_t next;
    uint64_t numbers[MersenneTwister::kSize];
    uint8_t normal[40];  // what a normal distribution has kept
};
static_assert(sizeof(State) == 5056);

// Elements from the first to the last in memory, with those between: as many as there are, if none is
// missing.
int64_t extent(const Tensor& tensor) {
    int64_t last = 0;
    for (int64_t dim = 0; dim < tensor.dim(); ++dim) last += (tensor.size(dim) - 1) * tensor.stride(dim);
    return last + 1;
}

void check(const Tensor& tensor, const char* name, ScalarType type, int64_t numel) {
    STD_TORCH_CHECK(
        tensor.scalar_type() == type && tensor.numel() == numel && (numel == 0 || extent(tensor) == numel),
        name, ": expected ", numel, " numbers side by side, of the right dtype, found ", tensor.numel());
}

MersenneTwister generator_of(const State& state) {
    STD_TORCH_CHECK(1 <= state.left && state.left <= MersenneTwister::kSize + 1,
                    "state: expected one of torch's generator for CPUs, found other bytes");
    MersenneTwister generator;
    for (int64_t i = 0; i < MersenneTwister::kSize; ++i) {
        generator.numbers[i] = static_cast<uint32_t>(state.numbers[i]);
    }
    generator.next = MersenneTwister::kSize + 1 - state.left;
    return generator;
}

void dropout_op(Tensor state_bytes, const Tensor& x, double keep, double scale, Tensor out,
                std::optional<Tensor> mask) {
    check(state_bytes, "state", ScalarType::Byte, sizeof(State));
    check(x, "x", ScalarType::Float, x.numel());
    check(out, "out", ScalarType::Float, x.numel());
    if (mask) check(*mask, "mask", ScalarType::Byte, x.numel());
    STD_TORCH_CHECK(0 <= keep && keep <= 1, "keep: expected a probability, found ", keep);
    if (x.numel() == 0) return;
    State state;
    std::memcpy(&state, state_bytes.const_data_ptr(), sizeof state);
    MersenneTwister generator = generator_of(state);
    dropout(generator, static_cast<const float*>(x.const_data_ptr()), x.numel(),
            static_cast<int64_t>(std::ceil(std::ldexp(keep, 53))), static_cast<float>(scale),
            static_cast<float*>(out.mutable_data_ptr()),
            mask ? static_cast<uint8_t*>(mask->mutable_data_ptr()) : nullptr);
    for (int64_t i = 0; i < MersenneTwister::kSize; ++i) state.numbers[i] = generator.numbers[i];
    state.next = static_cast<uint64_t>(generator.next);
    state.left = static_cast<int32_t>(MersenneTwister::kSize + 1 - generator.next);
    std::memcpy(state_bytes.mutable_data_ptr(), &state, sizeof state);
}

void scale_kept_op(const Tensor& x, const Tensor& mask, double scale, Tensor out) {
    check(x, "x", ScalarType::Float, x.numel());
    check(mask, "mask", ScalarType::Byte, x.numel());
    check(out, "out", ScalarType::Float, x.numel());
    scale_kept(static_cast<const float*>(x.const_data_ptr()),
               static_cast<const uint8_t*>(mask.const_data_ptr()), x.numel(), static_cast<float>(scale),
               static_cast<float*>(out.mutable_data_ptr()));
}

}  // namespace
}  // namespace ikem

STABLE_TORCH_LIBRARY_FRAGMENT(ikem_fast, m) {
    m.def(
        "dropout(Tensor(a!) state, Tensor x, float keep, float scale, Tensor(b!) out, Tensor(c!)? mask) -> "
        "()");
    m.def("scale_kept(Tensor x, Tensor mask, float scale, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(ikem_fast, CPU, m) {
    m.impl("dropout", TORCH_BOX(&ikem::dropout_op));
    m.impl("scale_kept", TORCH_BOX(&ikem::scale_kept_op));
}
