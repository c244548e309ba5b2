// A convolution over time of few channels on the CPU. Each joint of each clip goes its way through time by
// itself: sixteen of these tracks at a time, read and normalized once, with all of the kernel's taps in
// cache.
#include <algorithm>
#include <vector>

#include "encoder/encoder.h"
#include "encoder/lanes.h"

namespace ikem {
namespace {

// Activations (clips, frames, joints, channels), of which tracks `first` … first + count − 1 are meant.
struct Tracks {
    int64_t frames, joints, channels, first, count;

    int64_t columns() const { return joints * channels; }
};

// call(offset of the first frame's numbers, joint, lane, tracks) for each clip that the tracks are of.
template <typename Call>
IKEM_HD void each_clip(const Tracks& t, const Call& call) {
    for (int64_t lane = 0; lane < t.count;) {
        const int64_t clip = (t.first + lane) / t.joints, joint = (t.first + lane) % t.joints;
        const int64_t tracks = std::min(t.count - lane, t.joints - joint);
        call((clip * t.frames * t.joints + joint) * t.channels, joint, lane, tracks);
        lane += tracks;
    }
}

// Have the processor fetch what comes next: the next frame, which is not where it would expect it.
template <typename T>
IKEM_HD void prefetch(const T* from, int64_t count) {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(from + i);
}

// The tracks of y as tile (frames, channels, 16); where affine is given, max(0, scale·y + shift) of them.
template <typename T>
IKEM_HD void read_tracks(const Tracks& t, const T* y, const float* affine, float* rows, float* tile) {
    const int64_t C = t.channels;
    std::fill(rows, rows + kLanes * C, 0.0f);
    for (int64_t frame = 0; frame < t.frames; ++frame) {
        each_clip(t, [&](int64_t at, int64_t joint, int64_t lane, int64_t tracks) IKEM_INLINE_LAMBDA {
            const T* from = y + at + frame * t.columns();
            float* to = rows + lane * C;
            prefetch(from + t.columns(), tracks * C);
            if (affine == nullptr) {
#pragma omp simd
                for (int64_t i = 0; i < tracks * C; ++i) to[i] = load(from[i]);
            } else {
                const float *scale = affine + joint * C, *shift = scale + t.columns();
#pragma omp simd
                for (int64_t i = 0; i < tracks * C; ++i) {
                    const float v = scale[i] * load(from[i]) + shift[i];
                    to[i] = v > 0 ? v : 0.0f;
                }
            }
        });
        transpose(rows, C, kLanes, C, tile + frame * C * kLanes, kLanes);
    }
}

template <typename T>
IKEM_HD void write_tracks(const Tracks& t, const float* tile, float* rows, T* y) {
    const int64_t C = t.channels;
    for (int64_t frame = 0; frame < t.frames; ++frame) {
        transpose(tile + frame * C * kLanes, kLanes, C, kLanes, rows, C);
        each_clip(t, [&](int64_t at, int64_t, int64_t lane, int64_t tracks) IKEM_INLINE_LAMBDA {
            T* to = y + at + frame * t.columns();
            const float* from = rows + lane * C;
#pragma omp simd
            for (int64_t i = 0; i < tracks * C; ++i) store(to + i, from[i]);
        });
    }
}

struct Work {
    float *rows, *in, *out, *sums;
};

// out[t] = Σ_l W[l] · in[t·stride + l − L/2].
template <typename T>
IKEM_MULTIVERSION void forward_tracks(const TemporalConvolution& n, int64_t first, int64_t count,
                                      const float* packed, const T* y, const float* affine, T* out,
                                      Work work) {
    const int64_t C = n.channels, size = C * kLanes, middle = n.taps / 2;
    read_tracks({n.frames, n.joints, C, first, count}, y, affine, work.rows, work.in);
    for (int64_t t = 0; t < n.frames_out(); ++t) {
        const int64_t begin = t * n.stride - middle;
        const int64_t low = std::max<int64_t>(0, -begin), high = std::min(n.taps, n.frames - begin);
        product(packed, C, n.taps * C, low * C, (high - low) * C, work.in + (begin + low) * size,
                work.out + t * size);
    }
    write_tracks({n.frames_out(), n.joints, C, first, count}, work.out, work.rows, out);
}

// Frames that a step of the stride apart have the same taps: `phase` is which, from the last tap to the
// first, so that what they take part in rises.
struct Phase {
    int64_t phase, stride, taps;

    int64_t count() const { return phase < taps ? (taps - phase + stride - 1) / stride : 0; }
    int64_t tap(int64_t i) const { return phase + stride * (count() - 1 - i); }
    // Where its weights begin among those of all phases, in taps.
    int64_t start() const {
        int64_t before = 0;
        for (int64_t p = 0; p < phase; ++p) before += Phase{p, stride, taps}.count();
        return before;
    }
};

// grad_x[t] = Σ_l W[l]ᵀ · grad[(t + L/2 − l)/stride], where that is a frame.
IKEM_HD void backward_input(const TemporalConvolution& n, const float* packed, const float* grad,
                            float* grad_x) {
    const int64_t C = n.channels, size = C * kLanes, last = n.frames_out() - 1;
    for (int64_t t = 0; t < n.frames; ++t) {
        const int64_t q = (t + n.taps / 2) / n.stride;
        const Phase phase{(t + n.taps / 2) % n.stride, n.stride, n.taps};
        // The tap i of the phase meets the frame q − count + 1 + i.
        const int64_t begin = q - phase.count() + 1;
        const int64_t low = std::max<int64_t>(0, -begin), high = std::min(phase.count(), last + 1 - begin);
        product(packed + phase.start() * C * C, C, phase.count() * C, low * C,
                std::max<int64_t>(high - low, 0) * C, grad + (begin + low) * size, grad_x + t * size);
    }
}

// sums (L, C', C, 8): += grad[t] · x[t·stride + l − L/2]ᵀ. A few channels and frames at a time, which stay in
// the first-level cache for all taps.
IKEM_HD void backward_weight(const TemporalConvolution& n, const float* grad, const float* x, float* sums) {
    const int64_t C = n.channels, size = C * kLanes, step = n.stride * size;
    for (int64_t begin = 0; begin < n.frames_out(); begin += kLanes) {
        const int64_t end = std::min(begin + kLanes, n.frames_out());
        each_block(C, C, [&](auto R, auto Q, int64_t r, int64_t q) IKEM_INLINE_LAMBDA {
            for (int64_t l = 0; l < n.taps; ++l) {
                const int64_t shift = l - n.taps / 2;
                const int64_t low = std::max(begin, shift < 0 ? (n.stride - 1 - shift) / n.stride : 0);
                const int64_t high =
                    shift < n.frames ? std::min(end, (n.frames - 1 - shift) / n.stride + 1) : 0;
                if (low >= high) continue;
                correlate_block<R, Q>(grad + low * size + r * kLanes, size,
                                      x + low * step + shift * size + q * kLanes, step, high - low,
                                      sums + ((l * C + r) * C + q) * kHalf, C * kHalf);
            }
        });
    }
}

template <typename T>
IKEM_MULTIVERSION void backward_tracks(const TemporalConvolution& n, int64_t first, int64_t count,
                                       const float* packed, const T* grad, const T* y, const float* affine,
                                       T* grad_x, Work work) {
    const int64_t C = n.channels;
    read_tracks({n.frames, n.joints, C, first, count}, y, affine, work.rows, work.in);
    read_tracks<T>({n.frames_out(), n.joints, C, first, count}, grad, nullptr, work.rows, work.out);
    backward_weight(n, work.out, work.in, work.sums);
    backward_input(n, packed, work.out, work.in);
    write_tracks({n.frames, n.joints, C, first, count}, work.in, work.rows, grad_x);
}

}  // namespace

template <typename T>
void temporal_convolution(const TemporalConvolution& n, const float* weight, const T* y, const float* affine,
                          T* out) {
    const int64_t C = n.channels, L = n.taps, size = C * kLanes;
    std::vector<float> packed(L * C * C);
    pack(C, L * C, [&](int64_t r, int64_t j) { return weight[(r * C + j % C) * L + j / C]; }, packed.data());
    over_frames((n.tracks() + kLanes - 1) / kLanes, n.frames * size, [&](int64_t tile, int64_t tiles) {
        Scratch scratch((1 + n.frames + n.frames_out()) * size);
        const Work work{scratch.take(size), scratch.take(n.frames * size),
                        scratch.take(n.frames_out() * size), nullptr};
        for (int64_t first = tile * kLanes; first < (tile + tiles) * kLanes; first += kLanes) {
            forward_tracks(n, first, std::min(kLanes, n.tracks() - first), packed.data(), y, affine, out,
                           work);
        }
    });
}

template <typename T>
void temporal_convolution_backward(const TemporalConvolution& n, const float* weight, const T* grad,
                                   const T* y, const float* affine, T* grad_x, float* grad_weight) {
    const int64_t C = n.channels, L = n.taps, size = C * kLanes, numbers = L * C * C;
    std::vector<float> packed(numbers);
    for (int64_t p = 0; p < std::min(n.stride, L); ++p) {
        const Phase phase{p, n.stride, L};
        pack(
            C, phase.count() * C,
            [&](int64_t r, int64_t j) { return weight[((j % C) * C + r) * L + phase.tap(j / C)]; },
            packed.data() + phase.start() * C * C);
    }
    std::vector<double> sums(numbers);
    sum_over_frames(n.tracks(), numbers, sums.data(), [&](int64_t begin, int64_t tracks, float* partial) {
        Scratch scratch((1 + n.frames + n.frames_out()) * size + numbers * kHalf);
        const Work work{scratch.take(size), scratch.take(n.frames * size),
                        scratch.take(n.frames_out() * size), scratch.take(numbers * kHalf)};
        std::fill(work.sums, work.sums + numbers * kHalf, 0.0f);
        for (int64_t first = begin; first < begin + tracks; first += kLanes) {
            const int64_t count = std::min(kLanes, begin + tracks - first);
            backward_tracks(n, first, count, packed.data(), grad, y, affine, grad_x, work);
        }
        add_parts(work.sums, numbers, partial);
    });
    for (int64_t l = 0; l < L; ++l) {
        for (int64_t i = 0; i < C * C; ++i) grad_weight[i * L + l] = static_cast<float>(sums[l * C * C + i]);
    }
}

#define IKEM_INSTANTIATE(T)                                                                              \
    template void temporal_convolution(const TemporalConvolution&, const float*, const T*, const float*, \
                                       T*);                                                              \
    template void temporal_convolution_backward(const TemporalConvolution&, const float*, const T*,      \
                                                const T*, const float*, T*, float*);
IKEM_INSTANTIATE(float)
IKEM_INSTANTIATE(uint16_t)
#undef IKEM_INSTANTIATE

}  // namespace ikem
