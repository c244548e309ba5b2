// Runs the body of the preprocessing kernel on CPU threads, as emulate_kernel.cpp does that of the
// derivation.
//
// usage: emulate_preprocessing INPUT OUTPUT THREADS. INPUT holds int64 numbers, then the raw clips as floats
// (3,ΣF,V,M); OUTPUT gets the clips, then their true frame counts.
#include <pthread.h>

#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "preprocessing/preprocessing_batch.h"

namespace {

using namespace ikem;

struct BarrierSync {
    pthread_barrier_t* barrier;
    void operator()() const { pthread_barrier_wait(barrier); }
};

template <typename T>
std::vector<T> read(std::ifstream& file, int64_t n) {
    std::vector<T> values(n);
    file.read(reinterpret_cast<char*>(values.data()), n * sizeof(T));
    return values;
}

}  // namespace

int main(int, char** arguments) {
    std::ifstream in(arguments[1], std::ios::binary);
    const auto numbers = read<int64_t>(in, 8);  // N, ΣF, T, V, M, root, right, left
    RawBatch batch{};
    batch.clips = numbers[0], batch.total = numbers[1];
    batch.shared = {numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7]};
    const auto starts = read<int64_t>(in, batch.clips), lengths = read<int64_t>(in, batch.clips);
    const int64_t frame = numbers[3] * numbers[4];
    const auto x = read<float>(in, 3 * batch.total * frame);
    if (!in) return 1;
    std::vector<int32_t> source(batch.total + batch.clips);
    std::vector<Pose<float>> poses(batch.clips * numbers[2] * numbers[4]);
    std::vector<float> out(batch.clips * 3 * numbers[2] * frame);
    std::vector<int64_t> true_frames(batch.clips);
    batch.x = x.data();
    const int64_t strides[] = {batch.total * frame, frame, numbers[4], 1};
    for (int i = 0; i < 4; ++i) batch.stride[i] = strides[i];
    batch.starts = starts.data(), batch.lengths = lengths.data();
    batch.source = source.data(), batch.poses = poses.data();
    batch.out = out.data(), batch.true_frames = true_frames.data();

    const int threads = std::atoi(arguments[3]);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> block;
    for (int thread = 0; thread < threads; ++thread) {
        block.emplace_back([&, thread] {
            for (int64_t n = 0; n < batch.clips; ++n) {
                preprocess<float>(batch, n, thread, threads, BarrierSync{&barrier});
            }
        });
    }
    for (std::thread& thread : block) thread.join();
    std::ofstream file(arguments[2], std::ios::binary);
    file.write(reinterpret_cast<char*>(out.data()), out.size() * sizeof(float));
    file.write(reinterpret_cast<char*>(true_frames.data()), true_frames.size() * sizeof(int64_t));
}
