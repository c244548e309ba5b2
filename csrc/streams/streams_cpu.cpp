#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common.h"
#include "streams/streams.h"

namespace ikem {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int64_t kGrain = 1 << 14;  // numbers that are worth a thread

// Half and BFloat16 are subtracted in float and rounded once, as torch does.
template <typename T>
struct Wide {
    using type = float;
};
template <>
struct Wide<double> {
    using type = double;
};

template <typename T>
IKEM_MULTIVERSION void subtract(const T* x, const T* y, int64_t n, T* out) {
    using W = typename Wide<T>::type;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(static_cast<W>(x[i]) - static_cast<W>(y[i]));
}

// parents: none −1; a root's own column, whose bone `roots` sets to 0 whatever x is.
template <typename T>
void bones(const T* x, const int32_t* parents, const std::vector<int32_t>& roots, int64_t n, T* out) {
    using W = typename Wide<T>::type;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        out[i] = static_cast<T>(static_cast<W>(x[i]) - static_cast<W>(x[parents[i]]));
    }
    for (const int32_t root : roots) out[root] = static_cast<T>(0.0f);
}

struct Parents {
    std::vector<int32_t> of, roots;

    explicit Parents(const Streams& s) : of(s.width) {
        for (int64_t i = 0; i < s.width; ++i) {
            of[i] = static_cast<int32_t>(s.parents[i] < 0 ? i : s.parents[i]);
            if (s.parents[i] < 0) roots.push_back(static_cast<int32_t>(i));
        }
    }
};

template <typename T>
void forward(const Streams& s, const T* x, T* bone, T* motion) {
    const Parents parents(s);
    const int64_t size = s.frames * s.width;
    torch::stable::parallel_for(0, s.sequences, kGrain / (size + 1) + 1, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin * size; at < end * size; at += size) {
            for (int64_t i = at; bone != nullptr && i < at + size; i += s.width) {
                bones(x + i, parents.of.data(), parents.roots, s.width, bone + i);
            }
            if (motion == nullptr) continue;
            subtract(x + at + s.width, x + at, size - s.width, motion + at);
            std::fill_n(motion + at + size - s.width, s.width, static_cast<T>(0.0f));
        }
    });
}

template <typename T>
void backward(const Streams& s, const T* joint, const T* bone, const T* motion, T* gradient) {
    using W = typename Wide<T>::type;
    const Parents parents(s);
    const int64_t size = s.frames * s.width;
    torch::stable::parallel_for(0, s.sequences, kGrain / (size + 1) + 1, [&](int64_t begin, int64_t end) {
        std::vector<W> sum(s.width);
        for (int64_t sequence = begin; sequence < end; ++sequence) {
            for (int64_t frame = 0; frame < s.frames; ++frame) {
                const int64_t at = sequence * size + frame * s.width;
                for (int64_t i = 0; i < s.width; ++i) sum[i] = joint ? static_cast<W>(joint[at + i]) : W(0);
                if (motion != nullptr && frame + 1 < s.frames) {
                    for (int64_t i = 0; i < s.width; ++i) sum[i] -= static_cast<W>(motion[at + i]);
                }
                if (motion != nullptr && frame > 0) {
                    for (int64_t i = 0; i < s.width; ++i) sum[i] += static_cast<W>(motion[at - s.width + i]);
                }
                if (bone != nullptr) {
                    for (int64_t i = 0; i < s.width; ++i) sum[i] += static_cast<W>(bone[at + i]);
                    for (int64_t i = 0; i < s.width; ++i) sum[parents.of[i]] -= static_cast<W>(bone[at + i]);
                }
                for (int64_t i = 0; i < s.width; ++i) gradient[at + i] = static_cast<T>(sum[i]);
            }
        }
    });
}

// call(a number of the type).
template <typename Call>
void with_type(ScalarType type, const Call& call) {
    if (type == ScalarType::Float) return call(float{});
    if (type == ScalarType::Double) return call(double{});
    if (type == ScalarType::Half) return call(Half{});
    call(BFloat16{});
}

template <typename T, typename P>
auto* as(P* pointer) {
    if constexpr (std::is_const_v<P>) {
        return static_cast<const T*>(pointer);
    } else {
        return static_cast<T*>(pointer);
    }
}

}  // namespace

void streams_forward(const Streams& s, const void* x, void* bone, void* motion) {
    with_type(s.type, [&](auto number) {
        using T = decltype(number);
        forward(s, as<T>(x), as<T>(bone), as<T>(motion));
    });
}

void streams_backward(const Streams& s, const void* joint, const void* bone, const void* motion,
                      void* gradient) {
    with_type(s.type, [&](auto number) {
        using T = decltype(number);
        backward(s, as<T>(joint), as<T>(bone), as<T>(motion), as<T>(gradient));
    });
}

}  // namespace ikem
