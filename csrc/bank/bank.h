// Losses of features against a memory bank, on the CPU: what the ops (bank_ops.cpp) ask the passes for.
//
// Notation of docs/method.md, exponents base 2: rows are scaled so that no tile needs a pass of its own for
// base and temperature. A pass goes over the bank once, in tiles that stay in the processor's cache, and is
// one parallel region over blocks of rows × parts of the bank. What each leaves is put together in the order
// of the bank, so the same bits come out for any number of threads.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace ikem {

using torch::headeronly::ScalarType;

// The banks of P modalities (P,K,D), of any strides. Float, Half or BFloat16.
struct Bank {
    const void* keys;
    ScalarType type;
    int64_t modalities, size, dim;
    int64_t stride[3];
};

// Features that are learned. x (features, clips, chunks · D) float: with one chunk each meets the bank of its
// own modality, with P chunks all banks side by side. y (P, clips, D) float: the keys.
struct Features {
    const float *x, *y;
    int64_t features, clips, chunks;
};

// loss (features, clips): InfoNCE. direction, where not null, of the shape of x: its gradient in x.
void attention(const Bank& bank, const Features& f, double temperature, float* loss, float* direction);

// Attention of rows x (P, clips, D) to the bank as it is: partition (P, clips) = log Σ_r e^{x·Q_r}; mean,
// where not null, (P, clips, D) = Σ_r softmax_r(x·Q_r) Q_r, the gradient of the partition; above, where
// limits (P, clips) are not null, = #{r : x·Q_r > limit}.
void softmax(const Bank& bank, const float* x, int64_t clips, const float* limits, float* partition,
             float* mean, int64_t* above);

// KL divergence of softmax(x·own_r) from softmax(t·guide_r) over the topk rows r nearest to t: loss (P,
// clips); direction, where not null, of the shape of x: its gradient in x.
void neighbor_divergence(const Bank& own, const Bank& guide, const float* x, const float* t, int64_t clips,
                         int64_t topk, float* loss, float* direction);

// The relational losses; see ikem_fast/ops/bank/library.py for what they leave. Where `anchored` the anchors
// are the keys y, else the features themselves.
struct Relations {
    Bank bank;
    Features f;
    double temperature;
    bool anchored;
    int64_t topk;
    bool context;

    int64_t anchors() const { return anchored ? bank.modalities : f.features; }
};

// A = features, B = anchors. loss (A,N); partition (A,B,N), base 2; scores (A,B,N,topk); mined and values
// (B,N,topk).
void relations(const Relations& r, float* loss, float* partition, float* scores, int64_t* mined,
               float* values);

// gradient, of the shape of x, for grad (A,N) and what `relations` left.
void relations_backward(const Relations& r, const float* grad, const float* partition, const float* scores,
                        const int64_t* mined, const float* values, float* gradient);

// The topk nearest keys of q (P, clips, D) float, nearest first, equal ones in the order of the bank: values
// and indices (P, clips, topk).
void nearest(const Bank& bank, const float* q, int64_t clips, int64_t topk, float* values, int64_t* indices);

}  // namespace ikem
