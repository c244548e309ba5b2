// One binary for every machine: a function so marked is compiled for several instruction sets, and the best
// one chosen at load time.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define IKEM_MULTIVERSION __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define IKEM_MULTIVERSION
#endif
