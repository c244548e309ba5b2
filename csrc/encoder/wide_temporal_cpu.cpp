// The gradient in the weights of a convolution of many channels over time, on the CPU. Of such a convolution
// libraries do the rest well; this product over clips, frames and joints they do at half of its speed.
//
// A group of clips is packed so that every step of a product reads what lies side by side: the gradient in
// strips of channels, what is convolved in panels of them, both with frames ahead of clips. Then a tap of the
// kernel is one run of rows of either, some frames apart, and all taps read the same strip and panel, out of
// the second-level cache.
#include <algorithm>
#include <vector>

#include "common.h"
#include "encoder/encoder.h"
#include "encoder/frames.h"
#include "products/products.h"

namespace ikem {
namespace {

constexpr int64_t kGroupRows = 2048;  // of a frame and joint of a clip each

int64_t parts_of(int64_t size, int64_t most) { return (size + most - 1) / most; }

// Channels in pieces as even as can be.
struct Pieces {
    int64_t channels, count;

    int64_t begin(int64_t piece) const { return channels * piece / count; }
    int64_t size(int64_t piece) const { return begin(piece + 1) - begin(piece); }
};

// Where a tap's products are: `depth` rows of the gradient from `grad` on, with rows from `x` on.
struct Run {
    int64_t grad, x, depth;
};

// Clips `first` … first + clips − 1.
struct Group {
    const TemporalConvolution& n;
    int64_t first, clips;

    int64_t frame_rows() const { return clips * n.joints; }

    // Where a frame of what is convolved is packed: those that a tap sees, a stride apart, lie side by side.
    int64_t place(int64_t frame) const { return begin_of_phase(frame % n.stride) + frame / n.stride; }

    Run run(int64_t tap) const {
        const int64_t shift = tap - n.taps / 2, phase = ((shift % n.stride) + n.stride) % n.stride;
        const int64_t low = shift < 0 ? (n.stride - 1 - shift) / n.stride : 0;
        const int64_t high =
            shift < n.frames ? std::min(n.frames_out(), (n.frames - 1 - shift) / n.stride + 1) : 0;
        const int64_t x = begin_of_phase(phase) + low + (shift - phase) / n.stride;
        return {low * frame_rows(), x * frame_rows(), std::max<int64_t>(high - low, 0) * frame_rows()};
    }

  private:
    int64_t begin_of_phase(int64_t phase) const {
        int64_t frames = 0;
        for (int64_t before = 0; before < phase; ++before) {
            frames += parts_of(n.frames - before, n.stride);
        }
        return frames;
    }
};

// A frame of a clip (V, C) as rows `between` apart in each piece, pieces `piece_size` apart; where affine is
// given, max(0, scale·y + shift) of it.
template <typename T>
IKEM_MULTIVERSION void pack_frame(const TemporalConvolution& n, const T* y, const float* affine,
                                  Pieces pieces, int64_t between, int64_t piece_size, float* packed) {
    const int64_t C = n.channels;
    for (int64_t piece = 0; piece < pieces.count; ++piece, packed += piece_size) {
        const int64_t begin = pieces.begin(piece), size = pieces.size(piece);
        for (int64_t joint = 0; joint < n.joints; ++joint) {
            const T* from = y + joint * C + begin;
            float* to = packed + joint * between;
            if (affine == nullptr) {
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) to[i] = load(from[i]);
            } else {
                const float *scale = affine + joint * C + begin, *shift = scale + n.joints * C;
#pragma omp simd
                for (int64_t i = 0; i < size; ++i) {
                    const float v = scale[i] * load(from[i]) + shift[i];
                    to[i] = v > 0 ? v : 0.0f;
                }
            }
        }
    }
}

// All of a group in strips and panels, and the products of each with each, for all taps.
template <typename T>
class Correlation {
  public:
    explicit Correlation(const TemporalConvolution& n)
        : n_(n),
          width_(panel_width()),
          height_(strip_width()),
          strips_{n.channels, parts_of(n.channels, height_)},
          panels_{n.channels, parts_of(n.channels, width_)},
          clips_(std::clamp<int64_t>(kGroupRows / (n.frames * n.joints), 1, n.clips)),
          grad_(strips_.count * n.frames_out() * clips_ * n.joints * height_),
          x_(panels_.count * n.frames * clips_ * n.joints * width_),
          sums_(tiles() * height_ * width_) {}

    void add_all(const T* grad, const T* y, const float* affine) {
        for (int64_t first = 0; first < n_.clips; first += clips_) {
            const Group group{n_, first, std::min(clips_, n_.clips - first)};
            pack(group, grad, y, affine);
            add(group);
        }
    }

    // weight (C, C, taps)
    void write(float* weight) const {
        for (int64_t tile = 0; tile < tiles(); ++tile) {
            const Place at = place(tile);
            const double* sums = sums_.data() + tile * height_ * width_;
            for (int64_t r = 0; r < strips_.size(at.strip); ++r) {
                float* row = weight + (strips_.begin(at.strip) + r) * n_.channels * n_.taps + at.tap;
                for (int64_t c = 0; c < panels_.size(at.panel); ++c) {
                    row[(panels_.begin(at.panel) + c) * n_.taps] = static_cast<float>(sums[r * width_ + c]);
                }
            }
        }
    }

  private:
    struct Place {
        int64_t panel, strip, tap;
    };

    int64_t tiles() const { return panels_.count * strips_.count * n_.taps; }

    // Neighbors share a panel and a strip.
    Place place(int64_t tile) const {
        return {tile / n_.taps / strips_.count, tile / n_.taps % strips_.count, tile % n_.taps};
    }

    void pack(const Group& group, const T* grad, const T* y, const float* affine) {
        const int64_t V = n_.joints, C = n_.channels, rows = group.frame_rows();
        over_frames(group.clips * n_.frames, V * C, [&](int64_t begin, int64_t count) {
            for (int64_t at = begin; at < begin + count; ++at) {
                const int64_t clip = at / n_.frames, frame = at % n_.frames;
                const int64_t from = (group.first + clip) * n_.frames + frame;
                pack_frame(n_, y + from * V * C, affine, panels_, width_, n_.frames * rows * width_,
                           x_.data() + (group.place(frame) * rows + clip * V) * width_);
                if (frame >= n_.frames_out()) continue;
                const int64_t grad_from = (group.first + clip) * n_.frames_out() + frame;
                pack_frame<T>(n_, grad + grad_from * V * C, nullptr, strips_, height_,
                              n_.frames_out() * rows * height_,
                              grad_.data() + (frame * rows + clip * V) * height_);
            }
        });
    }

    void add(const Group& group) {
        const int64_t rows = group.frame_rows(), size = height_ * width_;
        torch::stable::parallel_for(0, tiles(), 4, [&](int64_t begin, int64_t end) {
            std::vector<float> product(size);
            for (int64_t tile = begin; tile < end; ++tile) {
                const Place at = place(tile);
                const Run run = group.run(at.tap);
                correlate(grad_.data() + (at.strip * n_.frames_out() * rows + run.grad) * height_,
                          strips_.size(at.strip), x_.data() + (at.panel * n_.frames * rows + run.x) * width_,
                          run.depth, product.data());
                double* sums = sums_.data() + tile * size;
#pragma omp simd
                for (int64_t i = 0; i < strips_.size(at.strip) * width_; ++i) sums[i] += product[i];
            }
        });
    }

    const TemporalConvolution n_;
    const int64_t width_, height_;
    const Pieces strips_, panels_;
    const int64_t clips_;  // of a group
    std::vector<float> grad_, x_;
    std::vector<double> sums_;
};

}  // namespace

template <typename T>
void temporal_weights(const TemporalConvolution& n, const T* grad, const T* y, const float* affine,
                      float* grad_weight) {
    Correlation<T> correlation(n);
    correlation.add_all(grad, y, affine);
    correlation.write(grad_weight);
}

template void temporal_weights(const TemporalConvolution&, const float*, const float*, const float*, float*);
template void temporal_weights(const TemporalConvolution&, const uint16_t*, const uint16_t*, const float*,
                               float*);

}  // namespace ikem
