// Runs of plain instructions in a pickle: those of a fixed length and short texts, which need no looking
// into before the unpickler runs them. Knows nothing of Python.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ikem {

constexpr size_t kShortText = 64;  // bytes, which a plain text has fewer than

// Bytes of each instruction that has a fixed number of them, the instruction included; 0 for all others.
inline std::array<uint8_t, 256> plain_lengths() {
    std::array<uint8_t, 256> lengths{};
    for (const char code : std::string_view("(01N\x88\x89]})\x8f"
                                            "aesu\x90\x91t\x85\x86\x87\x94\x93\x81Rb"))
        lengths[static_cast<uint8_t>(code)] = 1;
    for (const char code : std::string_view("Kqh")) lengths[static_cast<uint8_t>(code)] = 2;
    lengths['M'] = 3;
    for (const char code : std::string_view("Jj")) lengths[static_cast<uint8_t>(code)] = 5;
    lengths['G'] = 9;
    return lengths;
}

struct PlainRun {
    size_t end;
    size_t tuples;  // instructions in it that make one
};

// The plain instructions of a block from a place on, as many as are whole. Memo numbers of four bytes are
// plain below `memo`: the unpickler's memo is as long as the largest of them.
inline PlainRun plain_run(std::string_view block, size_t at, uint32_t memo) {
    static const std::array<uint8_t, 256> lengths = plain_lengths();
    PlainRun run{at, 0};
    while (run.end < block.size()) {
        const char* here = block.data() + run.end;
        const size_t left = block.size() - run.end;
        const auto code = static_cast<uint8_t>(*here);
        size_t length = lengths[code];
        if (code == 0x8c && left >= 2) {  // SHORT_BINUNICODE
            const auto size = static_cast<uint8_t>(here[1]);
            length = size < kShortText ? 2 + size_t{size} : 0;
        } else if ((code == 'X' || code == 'r') && left >= 5) {  // BINUNICODE, LONG_BINPUT
            uint32_t number = 0;
            for (int byte = 4; byte > 0; --byte) number = number << 8 | static_cast<uint8_t>(here[byte]);
            if (code == 'X') {
                length = number < kShortText ? 5 + size_t{number} : 0;
            } else {
                length = number < memo ? 5 : 0;
            }
        }
        if (length == 0 || length > left) break;
        run.tuples += code == 't' || (code >= 0x85 && code <= 0x87);
        run.end += length;
    }
    return run;
}

}  // namespace ikem
