// Runs the body of the CUDA kernel on CPU threads: one block, whose threads meet at a barrier where those of
// a GPU would, takes every tile in turn. Built by test_cuda_kernel.py, under sanitizers that see what a GPU
// would not report: a missing barrier as a data race, a wrong index as an access outside the block's memory.
//
// usage: emulate_kernel INPUT OUTPUT THREADS. INPUT holds int64 numbers (sizes, choices, tables), then
// arrays; the order is that of `main` below and of `emulate` in the test.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <thread>
#include <vector>

#include "modalities/modalities_kernel.cuh"

namespace {

using namespace ikem;

struct BarrierSync {
    pthread_barrier_t* barrier;
    void operator()() const { pthread_barrier_wait(barrier); }
};

template <typename Out, int kVector>
void run(const Derivation& d, int threads) {
    const Launch launch = plan(d, kVector);
    if (launch.shared_bytes > kSharedBytes) std::abort();
    float* shared = static_cast<float*>(std::malloc(launch.shared_bytes));
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> block;
    for (int thread = 0; thread < threads; ++thread) {
        block.emplace_back([&, thread] {
            for (int64_t tile = 0; tile < launch.tiles; ++tile) {
                Tile<Out, kVector, BarrierSync>(launch, tile, shared, thread, threads, BarrierSync{&barrier})
                    .derive();
            }
        });
    }
    for (std::thread& thread : block) thread.join();
    std::free(shared);
}

template <typename Out>
void run_to(const Derivation& d, int threads) {
    if (vector_width(d) == 4) return run<Out, 4>(d, threads);
    return run<Out, 1>(d, threads);
}

struct Input {
    std::ifstream file;

    template <typename T>
    std::vector<T> array(int64_t n) {
        std::vector<T> values(n);
        file.read(reinterpret_cast<char*>(values.data()), n * sizeof(T));
        return values;
    }
    int64_t number() { return array<int64_t>(1)[0]; }
};

ScalarType type_of(int64_t bytes_and_kind) {
    return bytes_and_kind == 0   ? ScalarType::Float
           : bytes_and_kind == 1 ? ScalarType::Half
                                 : ScalarType::BFloat16;
}

}  // namespace

int main(int, char** arguments) {
    Input in{std::ifstream(arguments[1], std::ios::binary)};
    Derivation d{};
    d.clips = in.number(), d.frames = in.number(), d.joints = in.number(), d.bodies = in.number();
    d.num_modalities = static_cast<int32_t>(in.number());
    for (int32_t p = 0; p < d.num_modalities; ++p) d.modality[p] = static_cast<int32_t>(in.number());
    d.x_type = type_of(in.number()), d.out_type = type_of(in.number());
    const int64_t misaligned_by = in.number();  // values that the result starts after a multiple of 16 bytes
    for (int32_t& joint : d.torso) joint = static_cast<int32_t>(in.number());
    d.root = static_cast<int32_t>(in.number());
    const auto parents = in.array<int64_t>(d.joints), axis_parents = in.array<int64_t>(d.joints);
    d.parents = parents.data(), d.axis_parents = axis_parents.data();
    const auto frames = in.array<int64_t>(d.clips);
    const auto matrix = in.array<float>(d.clips * 9);
    const auto start = in.array<int64_t>(d.clips);
    d.original_frames = frames.data(), d.original_frames_are_int = true;
    d.matrix = matrix.data(), d.crop_start = start.data();
    const int64_t values = d.clips * 3 * d.frames * d.joints * d.bodies;
    const auto x = in.array<char>(values * (d.x_type == ScalarType::Float ? 4 : 2));
    d.x = x.data();
    if (!in.file) return std::fprintf(stderr, "%s is too short\n", arguments[1]), 1;

    const int64_t size = d.out_type == ScalarType::Float ? 4 : 2;
    const int64_t bytes = d.num_modalities * values * size;
    char* memory = static_cast<char*>(::operator new(bytes + misaligned_by * size, std::align_val_t{16}));
    d.out = memory + misaligned_by * size;
    const int threads = std::atoi(arguments[3]);
    switch (d.out_type) {
        case ScalarType::Half:
            run_to<Half>(d, threads);
            break;
        case ScalarType::BFloat16:
            run_to<BFloat16>(d, threads);
            break;
        default:
            run_to<float>(d, threads);
    }
    std::ofstream(arguments[2], std::ios::binary).write(static_cast<char*>(d.out), bytes);
    ::operator delete(memory, std::align_val_t{16});
}
