// Raw clips to what the encoders see: centred, resampled to a fixed length, shoulders along x.
//
// A clip is the work of one block of threads; on the CPU the block has one thread. It knows nothing of torch
// or Python: the op library and the extension module share it on the CPU, and the GPU's kernel runs it too.
// Rounds as ikem_fast.ops.reference does, in the raw clip's precision; angles are found in double.
#pragma once

#include <cmath>
#include <cstdint>

#include "common.h"

namespace ikem {

constexpr double kMaxCoordinate = 1e9;  // as in ikem_fast/skeleton/layout.py
constexpr int64_t kUnusable = -1;       // in place of a frame count: a coordinate is larger, or NaN

// What all clips of a batch share.
struct Preprocessing {
    int64_t frames, joints, bodies;  // of a result
    int64_t root, right, left;       // joints: the centre, the shoulders
};

// One raw clip (3,F,V,M), in any order in memory.
template <typename Real>
struct RawClip {
    const Real* x;
    int64_t frames;
    int64_t stride[4];

    IKEM_HD Real at(int c, int64_t frame, int64_t joint, int64_t body) const {
        return x[c * stride[0] + frame * stride[1] + joint * stride[2] + body * stride[3]];
    }
};

// Where one body is at one frame of the result, and how it is turned.
template <typename Real>
struct Pose {
    Real root[3];
    double cos, sin;
};

// A frame of the result lies between two raw frames that hold a body.
struct Between {
    int64_t before, after;
    double weight;  // of the second
};

// Linear with half-pixel centres, as an image resize; the edge frames are held.
IKEM_HD Between between(int64_t t, int64_t frames, int64_t valid) {
    double position =
        (static_cast<double>(t) + 0.5) * (static_cast<double>(valid) / static_cast<double>(frames)) - 0.5;
    const auto last = static_cast<double>(valid - 1);
    position = position < 0.0 ? 0.0 : position > last ? last : position;
    const auto before = static_cast<int64_t>(position);
    return {before, before + 1 < valid ? before + 1 : valid - 1, position - static_cast<double>(before)};
}

// One thread's view of a clip. `source` is memory for F + 1 numbers, `poses` for T·M, both shared by the
// block; `Sync` waits for the block's other threads.
template <typename Real, typename Sync>
class ClipPreprocessor {
  public:
    IKEM_HD ClipPreprocessor(const Preprocessing& p, const RawClip<Real>& raw, int32_t* source,
                             Pose<Real>* poses, int thread, int threads, Sync sync)
        : p_(p),
          raw_(raw),
          source_(source),
          poses_(poses),
          thread_(thread),
          threads_(threads),
          lanes_(threads < 32 ? 1 : 32),
          sync_(sync) {}

    // Write the result (3,T,V,M). Returns how many frames hold body 0; where none does, or kUnusable, the
    // result is 0.
    IKEM_HD int64_t run(float* out) {
        mark([this](int64_t f) { return is_at_origin(f, 0) ? 0 : 1; });
        if (source_[raw_.frames] == 0) {
            sync_();
            mark([this](int64_t f) { return holds_body(f) ? 1 : 0; });
        }
        const int64_t valid = source_[raw_.frames];
        if (valid <= 0) {
            for (int64_t i = thread_; i < 3 * p_.frames * p_.joints * p_.bodies; i += threads_) out[i] = 0.0f;
            return valid;
        }
        find_poses(valid);
        sync_();
        turn(valid, out);
        return valid;
    }

  private:
    // A body 0 whose first joint is at the origin is not there, unless it is so in all frames: then the
    // coordinates were centred on that joint beforehand.
    IKEM_HD bool is_at_origin(int64_t f, int64_t joint) const {
        return raw_.at(0, f, joint, 0) == 0 && raw_.at(1, f, joint, 0) == 0 && raw_.at(2, f, joint, 0) == 0;
    }

    IKEM_HD bool holds_body(int64_t f) const {
        for (int64_t v = 0; v < p_.joints; ++v) {
            if (!is_at_origin(f, v)) return true;
        }
        return false;
    }

    IKEM_HD bool is_usable(int64_t f) const {
        bool usable = true;
        for (int c = 0; c < 3; ++c) {
            for (int64_t v = 0; v < p_.joints; ++v) {
                for (int64_t m = 0; m < p_.bodies; ++m) {
                    const Real x = raw_.at(c, f, v, m);
                    usable &= x < kMaxCoordinate && x > -kMaxCoordinate;  // NaN is neither
                }
            }
        }
        return usable;
    }

    // source := the frames that are valid, in order; behind them their number, or kUnusable.
    template <typename Valid>
    IKEM_HD void mark(Valid valid) {
        for (int64_t f = thread_; f < raw_.frames; f += threads_) {
            source_[f] = is_usable(f) ? valid(f) : static_cast<int32_t>(kUnusable);
        }
        sync_();
        if (thread_ == 0) {
            int32_t count = 0;
            bool usable = true;
            for (int64_t f = 0; f < raw_.frames; ++f) {
                usable &= source_[f] >= 0;
                if (source_[f] > 0) source_[count++] = static_cast<int32_t>(f);
            }
            source_[raw_.frames] = usable ? count : static_cast<int32_t>(kUnusable);
        }
        sync_();
    }

    IKEM_HD Real mixed(const Between& t, int c, int64_t joint, int64_t body) const {
        const Real before = raw_.at(c, source_[t.before], joint, body);
        const Real after = raw_.at(c, source_[t.after], joint, body);
        return before + (after - before) * static_cast<Real>(t.weight);
    }

    // How each body must turn about y for its shoulders to lie along x, up to the sign that the whole clip
    // decides; the same for all its frames.
    IKEM_HD void find_poses(int64_t valid) {
        for (int64_t i = thread_; i < p_.frames * p_.bodies; i += threads_) {
            const int64_t m = i % p_.bodies;
            const Between t = between(i / p_.bodies, p_.frames, valid);
            Pose<Real>& pose = poses_[i];
            Real across[3];
            for (int c = 0; c < 3; ++c) {
                pose.root[c] = mixed(t, c, p_.root, m);
                across[c] =
                    (mixed(t, c, p_.right, m) - pose.root[c]) - (mixed(t, c, p_.left, m) - pose.root[c]);
            }
            const double x = across[0], z = across[2];
            pose.cos = x / (sqrt(x * x + z * z) + 1e-4);
            pose.sin = z;
        }
        sync_();
        for (int64_t m = thread_; m < p_.bodies; m += threads_) {
            double z = 0.0;
            for (int64_t t = 0; t < p_.frames; ++t) z += poses_[t * p_.bodies + m].sin;
            for (int64_t t = 0; t < p_.frames; ++t) {
                Pose<Real>& pose = poses_[t * p_.bodies + m];
                const double sine = sqrt(1.0 - pose.cos * pose.cos);
                pose.sin = z >= 0.0 ? -sine : sine;
            }
        }
    }

    // A warp takes a frame, a lane a joint.
    IKEM_HD void turn(int64_t valid, float* out) const {
        const int64_t plane = p_.frames * p_.joints * p_.bodies;
        for (int64_t t = thread_ / lanes_; t < p_.frames; t += threads_ / lanes_) {
            const Between at = between(t, p_.frames, valid);
            for (int64_t v = thread_ % lanes_; v < p_.joints; v += lanes_) {
                for (int64_t m = 0; m < p_.bodies; ++m) {
                    const Pose<Real>& pose = poses_[t * p_.bodies + m];
                    const Real x = mixed(at, 0, v, m) - pose.root[0];
                    const Real y = mixed(at, 1, v, m) - pose.root[1];
                    const Real z = mixed(at, 2, v, m) - pose.root[2];
                    const auto cos = static_cast<Real>(pose.cos), sin = static_cast<Real>(pose.sin);
                    float* to = out + (t * p_.joints + v) * p_.bodies + m;
                    to[0] = static_cast<float>(cos * x - sin * z);
                    to[plane] = static_cast<float>(y);
                    to[2 * plane] = static_cast<float>(sin * x + cos * z);
                }
            }
        }
    }

    const Preprocessing& p_;
    const RawClip<Real>& raw_;
    int32_t* const source_;
    Pose<Real>* const poses_;
    const int thread_, threads_, lanes_;
    const Sync sync_;
};

}  // namespace ikem
