// What every kernel may use: one source for the host and a GPU, one binary for every machine.
#pragma once

// A function for the host and, where nvcc compiles it, for a GPU.
#ifdef __CUDACC__
#define IKEM_HD __host__ __device__ __forceinline__
#else
#define IKEM_HD inline __attribute__((always_inline))
#endif

// A function compiled for several instruction sets; the best one is chosen at load time, which is ahead of
// what sanitizers prepare: they are given the macro empty.
#if defined(IKEM_MULTIVERSION)
#elif defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define IKEM_MULTIVERSION __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define IKEM_MULTIVERSION
#endif
