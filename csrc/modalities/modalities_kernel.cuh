// The body of the CUDA kernel, as a function of (tile, thread): what one thread of a block does for one tile.
//
// A tile is a run of frames of one clip. Its coordinates are read once, cropped, transformed and kept in
// shared memory; bones and angles are added to them, each computed once; then every modality asked for is
// written in contiguous runs of 16 bytes a thread where sizes allow. Frames at which derivatives look beyond
// the run, two at most, are read again.
//
// Nothing here is CUDA but the memory it is given, so that the tests run blocks of it on CPU threads
// (tests/ops/emulate_kernel.cpp); modalities_cuda.cu launches it on a GPU.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "modalities/derivation.h"

namespace ikem {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int kThreads = 128;
constexpr int kTileValues = 512;                  // of one coordinate, about; the run of frames is chosen so
constexpr int kSharedBytes = 48 * 1024;           // what every GPU grants without asking
constexpr int kMaxJoints = 512;                   // tables travel as arguments of the kernel
constexpr int64_t kMaxBlocks = int64_t{1} << 30;  // blocks take further tiles in turn

// What the kernel is launched with, by value.
struct Launch {
    Derivation d;  // without the tables on the host
    int16_t parents[kMaxJoints], axis_parents[kMaxJoints];
    int32_t run;              // frames in a tile
    int32_t tile_bodies;      // bodies in a tile: all of them, where they fit
    int64_t runs, divisions;  // of a clip's frames; of its bodies
    int64_t tiles;
    int64_t shared_bytes;
};

inline int64_t shared_bytes(int64_t run, int64_t values) {
    const int64_t floats = 3 * (run + 2) * values + 4 * (run + 1) * values;
    return floats * int64_t{sizeof(float)} + 2 * values * int64_t{sizeof(int16_t)};
}

// Bodies in a tile: all of them, where one frame of them fits into a block's memory.
inline int64_t tile_bodies(const Derivation& d) {
    int64_t bodies = d.bodies;
    while (shared_bytes(1, d.joints * bodies) > kSharedBytes) bodies = (bodies + 1) / 2;
    return bodies;
}

// Frames after which a vector may start again; `vector` is a power of 2.
inline int64_t frame_step(int64_t values, int vector) {
    int64_t step = 1;
    while (step * values % vector != 0) step *= 2;
    return step;
}

// Values written at once: as many as make 16 bytes or, where sizes do not divide so, 4 values or 1.
inline int vector_width(const Derivation& d) {
    const int64_t values = d.joints * d.bodies;
    const int widest = d.out_type == ScalarType::Float ? 4 : 8;
    if (reinterpret_cast<uintptr_t>(d.out) % 16 != 0 || tile_bodies(d) < d.bodies) return 1;
    for (const int vector : {widest, 4}) {
        const bool fits = shared_bytes(frame_step(values, vector), values) <= kSharedBytes;
        if (fits && d.frames * values % vector == 0) return vector;
    }
    return 1;
}

inline Launch plan(const Derivation& d, int vector) {
    Launch launch{};
    launch.d = d;
    launch.d.parents = launch.d.axis_parents = nullptr;
    for (int64_t v = 0; v < d.joints; ++v) {
        launch.parents[v] = static_cast<int16_t>(d.parents[v]);
        launch.axis_parents[v] = static_cast<int16_t>(d.axis_parents[v]);
    }
    const int64_t bodies = tile_bodies(d);
    launch.tile_bodies = static_cast<int32_t>(bodies);
    launch.divisions = (d.bodies + bodies - 1) / bodies;
    const int64_t values = d.joints * bodies;
    const int64_t step = frame_step(values, vector);
    int64_t run = (kTileValues / values + step - 1) / step * step;
    while (run > step && shared_bytes(run, values) > kSharedBytes) run -= step;
    run = run < step ? step : run;
    launch.run = static_cast<int32_t>(run < d.frames ? run : d.frames);
    launch.runs = (d.frames + launch.run - 1) / launch.run;
    launch.tiles = d.clips * launch.runs * launch.divisions;
    launch.shared_bytes = shared_bytes(launch.run, values);
    return launch;
}

template <typename Out, int kVector>
struct alignas(sizeof(Out) * kVector) Vector {
    Out value[kVector];
};

// One thread's view of the tile its block works on. `Sync` waits for the block's other threads.
template <typename Out, int kVector, typename Sync>
class Tile {
  public:
    IKEM_HD Tile(const Launch& launch, int64_t tile, float* shared, int thread, int threads, Sync sync)
        : launch_(launch), d_(launch.d), thread_(thread), threads_(threads), sync_(sync) {
        clip_ = tile / (launch.runs * launch.divisions);
        begin_ = tile / launch.divisions % launch.runs * launch.run;
        first_body_ = static_cast<int>(tile % launch.divisions) * launch.tile_bodies;
        bodies_ = smaller(launch.tile_bodies, d_.bodies - first_body_);
        values_ = static_cast<int>(d_.joints) * bodies_;
        frames_ = smaller(launch.run, d_.frames - begin_);
        with_next_ = smaller(launch.run + 1, d_.frames - begin_);
        with_after_ = smaller(launch.run + 2, d_.frames - begin_);
        speed_ = clip_speed(d_, clip_);
        x_ = {shared, with_after_ * values_};
        bones_ = {x_.plane(3), with_next_ * values_};
        angles_ = bones_.plane(3);
        parent_ = reinterpret_cast<int16_t*>(angles_ + with_next_ * values_);
        axis_ = parent_ + values_;
    }

    IKEM_HD void derive() {
        const bool wants_angle = d_.asks_for(kAngularVelocity);
        const bool wants_bone = wants_angle || d_.asks_for(kRotationAxis) || d_.asks_for(kBone);
        load();
        sync_();
        if (wants_bone) {
            find_bones();
            sync_();
        }
        if (wants_angle) {
            find_angles();
            sync_();
        }
        write();
        sync_();  // the block's next tile takes the same memory
    }

  private:
    IKEM_HD static int smaller(int64_t a, int64_t b) { return static_cast<int>(a < b ? a : b); }

    // Where value i of frame t lies in one coordinate of a clip; i counts the tile's joints and bodies.
    IKEM_HD int64_t offset(int64_t t, int i) const {
        const int64_t frame = d_.joints * d_.bodies;
        if (bodies_ == d_.bodies) return t * frame + i;
        return t * frame + i / bodies_ * d_.bodies + first_body_ + i % bodies_;
    }

    IKEM_HD float read(int c, int64_t at) const {
        at += (clip_ * 3 + c) * d_.frames * d_.joints * d_.bodies;
        if (d_.x_type == ScalarType::Half) return static_cast<const Half*>(d_.x)[at];
        if (d_.x_type == ScalarType::BFloat16) return static_cast<const BFloat16*>(d_.x)[at];
        return static_cast<const float*>(d_.x)[at];
    }

    // The tile's coordinates, cropped and transformed, and for each of a frame's values those of its bone's
    // parent and of its axis.
    IKEM_HD void load() {
        const float* matrix = d_.matrix == nullptr ? nullptr : d_.matrix + clip_ * 9;
        for (int i = thread_; i < with_after_ * values_; i += threads_) {
            const int t = i / values_;
            const int64_t at = offset(source_frame(d_, clip_, begin_ + t), i - t * values_);
            const Vec3 joint = {read(0, at), read(1, at), read(2, at)};
            x_.set(i, matrix == nullptr ? joint : transform(matrix, joint));
        }
        for (int i = thread_; i < values_; i += threads_) {
            const int v = i / bodies_, m = i - v * bodies_;
            parent_[i] = static_cast<int16_t>(launch_.parents[v] * bodies_ + m);
            axis_[i] = static_cast<int16_t>(launch_.axis_parents[v] * bodies_ + m);
        }
    }

    IKEM_HD void find_bones() {
        const int root = d_.root * bodies_;
        for (int i = thread_; i < with_next_ * values_; i += threads_) {
            const int frame = i / values_ * values_, value = i - frame;
            if (value < root || value >= root + bodies_)
                bones_.set(i, bone(x_[i], x_[frame + parent_[value]]));
        }
        for (int i = thread_; i < with_next_ * bodies_; i += threads_) {
            const int t = i / bodies_, m = i - t * bodies_;
            const Planes body = x_.from(t * values_ + m);
            const Vec3 normal = torso_normal(body[d_.torso[0] * bodies_], body[d_.torso[1] * bodies_],
                                             body[d_.torso[2] * bodies_]);
            bones_.set(t * values_ + root + m, normal);
        }
    }

    IKEM_HD Vec3 axis_bone(int i) const {
        const int frame = i / values_ * values_;
        return bones_[frame + axis_[i - frame]];
    }

    IKEM_HD void find_angles() {
        for (int i = thread_; i < with_next_ * values_; i += threads_)
            angles_[i] = angle(bones_[i], axis_bone(i));
    }

    // Modality m of value i; 0 where a later frame is missing.
    IKEM_HD Vec3 value(int m, int i) const {
        const bool has_next = i < (with_next_ - 1) * values_, has_after = i < (with_after_ - 2) * values_;
        const int next = i + values_;
        switch (m) {
            case kJoint:
                return x_[i];
            case kMotion:
                return has_next ? motion(x_[i], x_[next], speed_) : Vec3{};
            case kBone:
                return bones_[i];
            case kAcceleration:
                return has_after ? acceleration(x_[i], x_[next], x_[next + values_], speed_) : Vec3{};
            case kRotationAxis:
                return rotation_axis(bones_[i], axis_bone(i));
            default:
                if (!has_next) return Vec3{};
                return angular_velocity(rotation_axis(bones_[i], axis_bone(i)), angles_[i], angles_[next],
                                        speed_);
        }
    }

    IKEM_HD void write() const {
        const int64_t plane = d_.frames * d_.joints * d_.bodies;
        for (int i = thread_ * kVector; i < frames_ * values_; i += threads_ * kVector) {
            const int t = i / values_;
            const int64_t at = offset(begin_ + t, i - t * values_);
            for (int p = 0; p < d_.num_modalities; ++p) {
                Vector<Out, kVector> x, y, z;
#pragma unroll
                for (int k = 0; k < kVector; ++k) {
                    const Vec3 v = value(d_.modality[p], i + k);
                    x.value[k] = static_cast<Out>(v.x);
                    y.value[k] = static_cast<Out>(v.y);
                    z.value[k] = static_cast<Out>(v.z);
                }
                Out* out = static_cast<Out*>(d_.out) + (p * d_.clips + clip_) * 3 * plane + at;
                *reinterpret_cast<Vector<Out, kVector>*>(out) = x;
                *reinterpret_cast<Vector<Out, kVector>*>(out + plane) = y;
                *reinterpret_cast<Vector<Out, kVector>*>(out + 2 * plane) = z;
            }
        }
    }

    const Launch& launch_;
    const Derivation& d_;
    const int thread_, threads_;
    const Sync sync_;
    int64_t clip_, begin_;
    int first_body_, bodies_, values_;  // values_: of one coordinate in one frame of the tile
    int frames_, with_next_, with_after_;
    float speed_;
    Planes x_, bones_;
    float* angles_;
    int16_t *parent_, *axis_;
};

}  // namespace ikem
