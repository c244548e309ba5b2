// The body of the CUDA kernel, as a function of (tile, thread): what one thread of a block does for one tile.
//
// A tile is a run of frames of one clip. Its coordinates are read once, cropped, transformed and kept in
// shared memory; bones, axes and angles are added to them, each computed once; then every modality asked for
// is written, four values side by side a thread where sizes allow, out of four read in one access: threads of
// a warp then meet every bank of the memory alike. Frames at which derivatives look beyond the run, two at
// most, are read again.
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

// Floats of a plane, so that the next one begins at a multiple of 16 bytes.
IKEM_HD int64_t padded(int64_t floats) { return (floats + 3) / 4 * 4; }

inline int64_t shared_bytes(int64_t run, int64_t values) {
    const int64_t floats =
        3 * padded((run + 2) * values) + 4 * padded((run + 1) * values) + 3 * padded(run * values);
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

// Values written at once: 4, or 1 where sizes do not divide so. Eight of 16 bits would be read from shared
// memory at twice the stride, half as fast.
inline int vector_width(const Derivation& d) {
    const int64_t values = d.joints * d.bodies;
    if (reinterpret_cast<uintptr_t>(d.out) % 16 != 0 || tile_bodies(d) < d.bodies) return 1;
    const bool fits = shared_bytes(frame_step(values, 4), values) <= kSharedBytes;
    return fits && d.frames * values % 4 == 0 ? 4 : 1;
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
        x_ = {shared, padded(with_after_ * values_)};
        bones_ = {x_.plane(3), padded(with_next_ * values_)};
        angles_ = bones_.plane(3);
        axes_ = {bones_.plane(4), padded(frames_ * values_)};
        parent_ = reinterpret_cast<int16_t*>(axes_.plane(3));
        axis_ = parent_ + values_;
    }

    IKEM_HD void derive() {
        const bool wants_axis = d_.asks_for(kAngularVelocity) || d_.asks_for(kRotationAxis);
        const bool wants_bone = wants_axis || d_.asks_for(kBone);
        load();
        sync_();
        if (wants_bone) {
            find_bones();
            sync_();
        }
        if (wants_axis) {
            find_axes();
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

    // Axes and angles of rotation; of the frame behind the run, angles alone.
    IKEM_HD void find_axes() {
        for (int i = thread_; i < with_next_ * values_; i += threads_) {
            const int frame = i / values_ * values_;
            const Vec3 mine = bones_[i], other = bones_[frame + axis_[i - frame]];
            angles_[i] = angle(mine, other);
            if (i < frames_ * values_) axes_.set(i, rotation_axis(mine, other));
        }
    }

    // kVector values side by side, as the threads of a block read and write them.
    struct Some {
        float value[kVector];
    };
    struct Some3 {
        Some x, y, z;
        IKEM_HD Vec3 operator[](int k) const { return {x.value[k], y.value[k], z.value[k]}; }
    };

    // Those of a plane from value i of the tile, `later` values on: in accesses of 16 bytes, two where they
    // lie across. i is a multiple of kVector, so that all threads have the same shift.
    IKEM_HD static Some read_some(const float* plane, int i, int later) {
        Some some;
        if constexpr (kVector == 1) {
            some.value[0] = plane[i + later];
        } else {
            static_assert(kVector == 4);
            const int shift = later % 4;
            const auto* quads = reinterpret_cast<const Vector<float, 4>*>(plane + (i + later - shift));
            const Vector<float, 4> near = quads[0], far = quads[shift == 0 ? 0 : 1];
            const float both[7] = {near.value[0], near.value[1], near.value[2], near.value[3],
                                   far.value[0],  far.value[1],  far.value[2]};
            float half[5];
#pragma unroll
            for (int k = 0; k < 5; ++k) half[k] = shift & 2 ? both[k + 2] : both[k];
#pragma unroll
            for (int k = 0; k < 4; ++k) some.value[k] = shift & 1 ? half[k + 1] : half[k];
        }
        return some;
    }

    IKEM_HD static Some3 read_some(Planes planes, int i, int later) {
        return {read_some(planes.plane(0), i, later), read_some(planes.plane(1), i, later),
                read_some(planes.plane(2), i, later)};
    }

    // Modality m of kVector values from value i on; 0 where a later frame is missing. What lies behind the
    // last frame is read with it, and not used.
    IKEM_HD void find(int m, int i, Vec3 (&found)[kVector]) const {
        const int with_next = (with_next_ - 1) * values_, with_after = (with_after_ - 2) * values_;
        if (m == kMotion || m == kAcceleration) {
            const Some3 now = read_some(x_, i, 0), next = read_some(x_, i, values_);
            const Some3 after = m == kAcceleration ? read_some(x_, i, 2 * values_) : next;
#pragma unroll
            for (int k = 0; k < kVector; ++k) {
                const bool there = i + k < (m == kMotion ? with_next : with_after);
                const Vec3 value = m == kMotion ? motion(now[k], next[k], speed_)
                                                : acceleration(now[k], next[k], after[k], speed_);
                found[k] = there ? value : Vec3{};
            }
        } else if (m == kAngularVelocity) {
            const Some3 axis = read_some(axes_, i, 0);
            const Some now = read_some(angles_, i, 0), next = read_some(angles_, i, values_);
#pragma unroll
            for (int k = 0; k < kVector; ++k) {
                const Vec3 value = angular_velocity(axis[k], now.value[k], next.value[k], speed_);
                found[k] = i + k < with_next ? value : Vec3{};
            }
        } else {
            // Chosen as numbers: an object chosen by its address would have to be in memory.
            const Planes kept_in = {m == kJoint  ? x_.x
                                    : m == kBone ? bones_.x
                                                 : axes_.x,
                                    m == kJoint  ? x_.stride
                                    : m == kBone ? bones_.stride
                                                 : axes_.stride};
            const Some3 kept = read_some(kept_in, i, 0);
#pragma unroll
            for (int k = 0; k < kVector; ++k) found[k] = kept[k];
        }
    }

    IKEM_HD void write() const {
        const int64_t plane = d_.frames * d_.joints * d_.bodies;
        for (int i = thread_ * kVector; i < frames_ * values_; i += threads_ * kVector) {
            const int t = i / values_;
            const int64_t at = offset(begin_ + t, i - t * values_);
            for (int p = 0; p < d_.num_modalities; ++p) {
                Vec3 found[kVector];
                find(d_.modality[p], i, found);
                Vector<Out, kVector> x, y, z;
#pragma unroll
                for (int k = 0; k < kVector; ++k) {
                    x.value[k] = static_cast<Out>(found[k].x);
                    y.value[k] = static_cast<Out>(found[k].y);
                    z.value[k] = static_cast<Out>(found[k].z);
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
    Planes x_, bones_, axes_;
    float* angles_;
    int16_t *parent_, *axis_;
};

}  // namespace ikem
