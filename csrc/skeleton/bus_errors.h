// What becomes of a process that reads a mapped file which was cut short: nothing but a handler in C hears of
// it. Where bytes are copied out of a map on purpose, the copy fails; anywhere else the process ends, with a
// message.
#pragma once

#include <csignal>
#include <cstring>
#include <string>
#ifdef SIGBUS
#include <pthread.h>
#include <unistd.h>

#include <csetjmp>
#endif

namespace ikem {

#ifdef SIGBUS
inline char bus_message[1024];
inline size_t bus_length = 0;

// All that a handler may call; what the kernel could not read is not there to go on with.
inline void on_bus_error(int) {
    const ssize_t written = write(STDERR_FILENO, bus_message, bus_length);
    _exit(written < 0 ? 1 : 2);
}
#endif

// Whether from now on a bus error is said with this message and ends the process with status 2; without one,
// whether it is as before again. What else handles them is left alone.
inline bool end_at_bus_errors(const std::string& message) {
#ifdef SIGBUS
    struct sigaction present = {}, wanted = {};
    wanted.sa_handler = message.empty() ? SIG_DFL : &on_bus_error;
    const bool known = sigaction(SIGBUS, nullptr, &present) == 0 &&
                       (present.sa_handler == SIG_DFL || present.sa_handler == &on_bus_error);
    bus_length = message.copy(bus_message, sizeof bus_message);
    return known && sigaction(SIGBUS, &wanted, nullptr) == 0;
#else
    return message.empty();
#endif
}

#ifdef SIGBUS
// The copy that is under way; the interpreter's lock sees to it that there is one at a time.
struct GuardedCopy {
    sigjmp_buf back;
    pthread_t thread;
    struct sigaction before;
};
inline GuardedCopy guarded_copy;

// A bus error of another thread is for whoever handled them before.
inline void on_bus_error_of_copy(int) {
    if (pthread_equal(pthread_self(), guarded_copy.thread)) siglongjmp(guarded_copy.back, 1);
    sigaction(SIGBUS, &guarded_copy.before, nullptr);
}
#endif

// Copies bytes out of a mapped file; whether they were all there.
inline bool copy_mapped(void* to, const void* from, size_t size) {
#ifdef SIGBUS
    struct sigaction wanted = {};
    wanted.sa_handler = &on_bus_error_of_copy;
    guarded_copy.thread = pthread_self();
    if (sigaction(SIGBUS, &wanted, &guarded_copy.before) != 0) return false;
    volatile bool whole = false;
    if (sigsetjmp(guarded_copy.back, 1) == 0) {
        std::memcpy(to, from, size);
        whole = true;
    }
    sigaction(SIGBUS, &guarded_copy.before, nullptr);
    return whole;
#else
    std::memcpy(to, from, size);
    return true;
#endif
}

}  // namespace ikem
