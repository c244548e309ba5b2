// What becomes of a process that reads a mapped file which was cut short: nothing but a handler in C hears of
// it.
#pragma once

#include <csignal>
#include <string>
#ifdef SIGBUS
#include <unistd.h>
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

}  // namespace ikem
