// Texts of the characters 0 to 255, which pickles of protocol 2 hold an array's bytes as. Knows nothing of
// Python.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ikem {

constexpr bool is_first(uint8_t unit) { return (unit & 0xFE) == 0xC2; }  // of two
constexpr bool is_second(uint8_t unit) { return (unit & 0xC0) == 0x80; }

// From UTF-8, where these characters are one byte or two, to a byte each, in place. Returns how many there
// are, or -1 if the text is none of such characters. Without branches, since numbers have either kind at
// random.
inline ptrdiff_t latin_of_utf8(uint8_t* units, ptrdiff_t size) {
    if (size == 0) return 0;
    uint8_t odd = is_first(units[size - 1]) | (units[0] >= 0x80 && !is_first(units[0]));
    for (ptrdiff_t at = 1; at < size; ++at) {
        const uint8_t unit = units[at];
        odd |= is_second(unit) ^ is_first(units[at - 1]);
        odd |= (unit >= 0x80) ^ is_first(unit) ^ is_second(unit);
    }
    if (odd) return -1;
    uint8_t* to = units;
    uint8_t before = 0;
    for (ptrdiff_t at = 0; at < size; ++at) {
        const uint8_t unit = units[at];
        *to = static_cast<uint8_t>(unit | ((before == 0xC3) << 6));
        to += !is_first(unit);
        before = unit;
    }
    return to - units;
}

}  // namespace ikem
