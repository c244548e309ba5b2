// Augment and derive on the CPU: one read of the clips, one write of the modalities asked for.
//
// A thread takes a run of frames of one clip at a time, small enough that everything between the read and
// the write stays in its cache. Within a run every coordinate is one plane of (frames, V, M) values, and each
// loop below walks over planes: nothing in them depends on a joint's neighbours, so that compilers vectorise
// them. What does (the bone's parent, the axis's bone) is brought into planes of its own by `gather`.
// (A struct declared inside a `simd` loop keeps GCC from vectorising it; structs passed from call to call do
// not.)
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "common.h"
#include "modalities/derivation.h"

namespace ikem {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// Values of one coordinate in a run. A thread's 13 planes of them take 72 KB: in the second-level cache,
// while the frames that are computed twice, one or two after each run, stay few.
constexpr int64_t kRunValues = 1280;

IKEM_MULTIVERSION void transform_planes(Planes x, const float* matrix, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x.set(i, transform(matrix, x[i]));
}

IKEM_MULTIVERSION void motion_planes(Planes x, int64_t frame, float speed, Planes out, int64_t n) {
    const Planes next = x.from(frame);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out.set(i, motion(x[i], next[i], speed));
}

IKEM_MULTIVERSION void acceleration_planes(Planes x, int64_t frame, float speed, Planes out, int64_t n) {
    const Planes next = x.from(frame), after = x.from(2 * frame);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out.set(i, acceleration(x[i], next[i], after[i], speed));
}

// bones holds the parents' coordinates on entry.
IKEM_MULTIVERSION void bone_planes(Planes x, Planes bones, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) bones.set(i, bone(x[i], bones[i]));
}

IKEM_MULTIVERSION void rotation_axis_planes(Planes bones, Planes axis_bones, Planes out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out.set(i, rotation_axis(bones[i], axis_bones[i]));
}

IKEM_MULTIVERSION void angle_planes(Planes bones, Planes axis_bones, float* angles, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) angles[i] = angle(bones[i], axis_bones[i]);
}

IKEM_MULTIVERSION void angular_velocity_planes(Planes bones, Planes axis_bones, const float* angles,
                                               int64_t frame, float speed, Planes out, int64_t n) {
    const float* next = angles + frame;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        out.set(i, angular_velocity(rotation_axis(bones[i], axis_bones[i]), angles[i], next[i], speed));
    }
}

IKEM_MULTIVERSION void to_float(const Half* from, float* to, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

IKEM_MULTIVERSION void to_float(const BFloat16* from, float* to, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

void to_float(const float* from, float* to, int64_t n) { std::memcpy(to, from, n * sizeof(float)); }

IKEM_MULTIVERSION void from_float(const float* from, Half* to, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i].x = Half(from[i]).x;
}

IKEM_MULTIVERSION void from_float(const float* from, BFloat16* to, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i].x = BFloat16(from[i]).x;
}

// to[t][v][m] = from[t][table[v]][m]. M is a constant where it is common, so that a joint's bodies are one
// move.
template <int64_t kBodies>
void gather_bodies(Planes from, const int64_t* table, int64_t joints, int64_t bodies, int64_t frames,
                   Planes to) {
    const int64_t M = kBodies ? kBodies : bodies;
    for (int c = 0; c < 3; ++c) {
        for (int64_t t = 0; t < frames; ++t) {
            const float* source = from.plane(c) + t * joints * M;
            float* target = to.plane(c) + t * joints * M;
            for (int64_t v = 0; v < joints; ++v) {
                std::memcpy(target + v * M, source + table[v] * M, M * sizeof(float));
            }
        }
    }
}

void gather(Planes from, const int64_t* table, const Derivation& d, int64_t frames, Planes to) {
    switch (d.bodies) {
        case 1:
            return gather_bodies<1>(from, table, d.joints, d.bodies, frames, to);
        case 2:
            return gather_bodies<2>(from, table, d.joints, d.bodies, frames, to);
        default:
            return gather_bodies<0>(from, table, d.joints, d.bodies, frames, to);
    }
}

// One thread's working memory, and what it does with a run.
template <typename In, typename Out>
class Worker {
  public:
    Worker(const Derivation& d, int64_t run)
        : d_(d),
          frame_(d.joints * d.bodies),
          wants_axis_(d.asks_for(kRotationAxis) || d.asks_for(kAngularVelocity)),
          wants_bone_(wants_axis_ || d.asks_for(kBone)),
          plane_((run + 2) * frame_),
          memory_(13 * plane_),
          x_{memory_.data(), plane_},
          bones_{x_.plane(3), plane_},
          axis_bones_{x_.plane(6), plane_},
          result_{x_.plane(9), plane_},
          angles_(x_.plane(12)) {}

    // Frames begin … end−1 of a clip. Derivatives look at up to two frames more.
    void derive(int64_t clip, int64_t begin, int64_t end) {
        const float speed = clip_speed(d_, clip);
        const int64_t frames = end - begin;
        const int64_t with_next = std::min(end + 1, d_.frames) - begin;
        const int64_t with_after = std::min(end + 2, d_.frames) - begin;
        load(clip, begin, with_after);
        if (wants_bone_) find_bones(with_next);
        if (wants_axis_) gather(bones_, d_.axis_parents, d_, with_next, axis_bones_);
        if (d_.asks_for(kAngularVelocity)) angle_planes(bones_, axis_bones_, angles_, with_next * frame_);

        for (int32_t p = 0; p < d_.num_modalities; ++p) {
            const Planes out = target(p, clip, begin);
            int64_t defined = frames;  // frames that have the later frames they need; the others are 0
            switch (d_.modality[p]) {
                case kJoint:
                    copy(x_, out, frames * frame_);
                    break;
                case kMotion:
                    defined = std::min(frames, with_next - 1);
                    motion_planes(x_, frame_, speed, out, defined * frame_);
                    break;
                case kBone:
                    copy(bones_, out, frames * frame_);
                    break;
                case kAcceleration:
                    defined = std::clamp<int64_t>(with_after - 2, 0, frames);
                    acceleration_planes(x_, frame_, speed, out, defined * frame_);
                    break;
                case kRotationAxis:
                    rotation_axis_planes(bones_, axis_bones_, out, frames * frame_);
                    break;
                case kAngularVelocity:
                    defined = std::min(frames, with_next - 1);
                    angular_velocity_planes(bones_, axis_bones_, angles_, frame_, speed, out,
                                            defined * frame_);
                    break;
            }
            for (int c = 0; c < 3; ++c) {
                std::fill(out.plane(c) + defined * frame_, out.plane(c) + frames * frame_, 0.0f);
            }
            store(out, p, clip, begin, frames);
        }
    }

  private:
    // The clip's coordinates as floats, cropped and transformed.
    void load(int64_t clip, int64_t begin, int64_t frames) {
        for (int c = 0; c < 3; ++c) {
            const In* plane = static_cast<const In*>(d_.x) + (clip * 3 + c) * d_.frames * frame_;
            if (d_.crop_start == nullptr) {
                to_float(plane + begin * frame_, x_.plane(c), frames * frame_);
                continue;
            }
            for (int64_t t = 0; t < frames; ++t) {
                to_float(plane + source_frame(d_, clip, begin + t) * frame_, x_.plane(c) + t * frame_,
                         frame_);
            }
        }
        if (d_.matrix != nullptr) transform_planes(x_, d_.matrix + clip * 9, frames * frame_);
    }

    void find_bones(int64_t frames) {
        gather(x_, d_.parents, d_, frames, bones_);
        bone_planes(x_, bones_, frames * frame_);
        const auto [a, b, c] = d_.torso;
        for (int64_t t = 0; t < frames; ++t) {
            for (int64_t m = 0; m < d_.bodies; ++m) {
                const Planes body = x_.from(t * frame_ + m);
                const Vec3 normal =
                    torso_normal(body[a * d_.bodies], body[b * d_.bodies], body[c * d_.bodies]);
                bones_.set(t * frame_ + d_.root * d_.bodies + m, normal);
            }
        }
    }

    static void copy(Planes from, Planes to, int64_t n) {
        for (int c = 0; c < 3; ++c) std::memcpy(to.plane(c), from.plane(c), n * sizeof(float));
    }

    Out* result(int32_t p, int64_t clip, int c, int64_t begin) const {
        return static_cast<Out*>(d_.out) + (((p * d_.clips + clip) * 3 + c) * d_.frames + begin) * frame_;
    }

    // Where a modality is written: straight into a result of floats, else on the way to `store`.
    Planes target(int32_t p, int64_t clip, int64_t begin) const {
        if constexpr (std::is_same_v<Out, float>) {
            return {result(p, clip, 0, begin), d_.frames * frame_};
        }
        return result_;
    }

    void store(Planes from, int32_t p, int64_t clip, int64_t begin, int64_t frames) const {
        if constexpr (!std::is_same_v<Out, float>) {
            for (int c = 0; c < 3; ++c) from_float(from.plane(c), result(p, clip, c, begin), frames * frame_);
        }
    }

    const Derivation& d_;
    const int64_t frame_;  // values of one coordinate in one frame
    const bool wants_axis_, wants_bone_;
    const int64_t plane_;  // values of one coordinate in a run and the two frames after it
    std::vector<float> memory_;
    const Planes x_, bones_, axis_bones_, result_;
    float* const angles_;
};

template <typename In, typename Out>
void derive(const Derivation& d) {
    const int64_t run = std::clamp<int64_t>(kRunValues / (d.joints * d.bodies), 1, d.frames);
    const int64_t runs = (d.frames + run - 1) / run;
    // A thread is worth waking for some tens of microseconds of work.
    const int64_t grain = std::max<int64_t>(1, 16384 / (run * d.joints * d.bodies));
    torch::stable::parallel_for(0, d.clips * runs, grain, [&](int64_t begin, int64_t end) {
        Worker<In, Out> worker(d, run);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i % runs * run;
            worker.derive(i / runs, first, std::min(first + run, d.frames));
        }
    });
}

template <typename In>
void derive_from(const Derivation& d) {
    switch (d.out_type) {
        case ScalarType::Half:
            return derive<In, Half>(d);
        case ScalarType::BFloat16:
            return derive<In, BFloat16>(d);
        default:
            return derive<In, float>(d);
    }
}

// Ask for huge pages under a large result. It lies in memory that the allocator has just been given and gives
// back with it, and to be handed 4 KB at a time takes several times as long as to derive what is written
// there.
void advise_huge_pages(const Derivation& d) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t page = uintptr_t{1} << 21;
    const int64_t value_bytes = d.out_type == ScalarType::Float ? 4 : 2;
    const int64_t bytes = d.num_modalities * d.clips * 3 * d.frames * d.joints * d.bodies * value_bytes;
    const auto out = reinterpret_cast<uintptr_t>(d.out);
    const uintptr_t begin = (out + page - 1) / page * page, end = (out + bytes) / page * page;
    // Where the system grants none, nothing is lost.
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace

void derive_on_cpu(const Derivation& d) {
    advise_huge_pages(d);
    switch (d.x_type) {
        case ScalarType::Half:
            return derive_from<Half>(d);
        case ScalarType::BFloat16:
            return derive_from<BFloat16>(d);
        default:
            return derive_from<float>(d);
    }
}

}  // namespace ikem
