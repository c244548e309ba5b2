// The text of an NTU RGB+D `.skeleton` file, parsed. Knows nothing of Python: the extension module
// (skeleton_io.cpp) and the fuzz target (tools/fuzz_skeleton_io.cpp) share it.
//
//   frames
//   for each frame: bodies
//     for each body: 10 numbers, the tracking id first
//       25
//       for each joint: 12 numbers, x y z first
//
// One item a line, numbers separated by blanks; a byte order mark may come first. ikem_fast/data/skeletons.py
// reads the same grammar, with the same errors, where this one is not built. Memory is linear in the length
// of the text, whatever it declares.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace ikem {

constexpr int kJoints = 25;
constexpr int kMaxBodies = 6;  // what the sensor tracks at a time
constexpr int kMaxFrames = 1 << 16;
constexpr int kBodyNumbers = 10;
constexpr int kJointNumbers = 12;
constexpr size_t kMaxNumberLength = 32;
constexpr size_t kMaxQuoted = 40;                            // characters of a line that an error repeats
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // what some editors put before UTF-8

// R records, one for each body of each frame, in the order of the file.
struct Skeletons {
    int frames = 0;
    std::vector<int32_t> frame;         // (R,)
    std::vector<uint64_t> tracking_id;  // (R,)
    std::vector<float> joints;          // (R, 25, 3), metres
};

class SkeletonError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

class SkeletonParser {
  public:
    explicit SkeletonParser(std::string_view text) : next_(text.data()), end_(text.data() + text.size()) {
        if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) next_ += kByteOrderMark.size();
    }

    Skeletons parse() {
        Skeletons out;
        out.frames = count("a frame count from 0 to 65536", 0, kMaxFrames);
        for (int frame = 0; frame < out.frames; ++frame) {
            const int bodies = count("a body count from 0 to 6", 0, kMaxBodies);
            for (int body = 0; body < bodies; ++body) {
                out.frame.push_back(frame);
                out.tracking_id.push_back(tracking_id());
                count("the joint count 25", kJoints, kJoints);
                out.joints.resize(out.joints.size() + kJoints * 3);
                float* joint = &*(out.joints.end() - kJoints * 3);
                for (int v = 0; v < kJoints; ++v, joint += 3) coordinates(joint);
            }
        }
        while (next_ != end_) {
            next_line();
            skip_blanks();
            if (!rest_.empty()) fail("the end of the file");
        }
        return out;
    }

  private:
    // which: says which item of the line is meant, with what joins it to the line.
    [[noreturn]] void fail(const char* expected, const std::string& which = "") const {
        throw SkeletonError("line " + std::to_string(line_number_) + ": expected " + expected + ", found " +
                            (ended_ ? "the end of the file" : which + quoted(line_)));
    }

    static std::string quoted(std::string_view text) {
        std::string shown = "'";
        for (char c : text.substr(0, kMaxQuoted)) shown += ' ' <= c && c <= '~' ? c : '?';
        return shown + (text.size() > kMaxQuoted ? "...'" : "'");
    }

    // Of a line of several numbers, names the first item that none is written like: 'nan', far to the right.
    [[noreturn]] void fail_numbers(const char* expected) const {
        const auto is_blank = [](char c) { return kind(c) == kBlank; };
        const char* line_end = line_.data() + line_.size();
        const char* at = std::find_if_not(line_.data(), line_end, is_blank);
        for (int item = 1; at != line_end; ++item) {
            const char* stop = std::find_if(at, line_end, is_blank);
            if (!all_known(at, stop)) {
                const std::string_view odd(at, static_cast<size_t>(stop - at));
                fail(expected, quoted(odd) + " as item " + std::to_string(item) + " of ");
            }
            at = std::find_if_not(stop, line_end, is_blank);
        }
        fail(expected);
    }

    void next_line() {
        ++line_number_;
        ended_ = next_ == end_;
        const size_t left = static_cast<size_t>(end_ - next_);
        const void* newline = ended_ ? nullptr : std::memchr(next_, '\n', left);
        const char* stop = newline ? static_cast<const char*>(newline) : end_;
        line_ = std::string_view(next_, static_cast<size_t>(stop - next_));
        rest_ = line_;
        next_ = newline ? stop + 1 : end_;
    }

    // What a character can be part of.
    enum Kind : uint8_t { kNumber, kBlank, kStranger };

    static constexpr std::array<Kind, 256> kKinds = [] {
        std::array<Kind, 256> kinds{};
        for (Kind& kind : kinds) kind = kStranger;
        for (char c : {' ', '\t', '\r'}) kinds[static_cast<uint8_t>(c)] = kBlank;
        for (char c = '+'; c <= '9'; ++c) kinds[static_cast<uint8_t>(c)] = kNumber;
        for (char c : {'e', 'E'}) kinds[static_cast<uint8_t>(c)] = kNumber;
        return kinds;
    }();

    static Kind kind(char c) { return kKinds[static_cast<uint8_t>(c)]; }

    void skip_blanks() {
        while (!rest_.empty() && kind(rest_.front()) == kBlank) rest_.remove_prefix(1);
    }

    // Reads the next number of the line, all of it up to a blank or the end of the line.
    template <typename Number>
    bool number(Number& value) {
        skip_blanks();
        const char* begin = rest_.data();
        const char* line_end = begin + rest_.size();
        const auto [stop, error] = std::from_chars(begin, line_end, value);
        const auto length = static_cast<size_t>(stop - begin);
        if (length > kMaxNumberLength || (stop != line_end && kind(*stop) != kBlank)) return false;
        rest_.remove_prefix(length);
        if (std::is_floating_point_v<Number> && error == std::errc::result_out_of_range) {
            // A number this short can only be too small if its exponent is negative; then it is 0.
            value = 0;
            const std::string_view text(begin, length);
            return text.find("e-") != text.npos || text.find("E-") != text.npos;
        }
        return error == std::errc();
    }

    // Whether exactly `wanted` tokens are left, all of them of the characters that numbers are written with.
    bool numbers_left(int wanted) const {
        if (rest_.empty()) return wanted == 0;
        const char* at = rest_.data() + 1;  // what follows a number begins with a blank
        const char* line_end = rest_.data() + rest_.size();
        int starts = 0;
        for (; line_end - at >= 8; at += 8) {
            const Eight here(at), before(at - 1);
            if (!here.all_plain() && !all_known(at, at + 8)) return false;
            starts += Eight::count(here.at_least('!') & ~before.at_least('!'));
        }
        if (!all_known(at, line_end)) return false;
        for (; at != line_end; ++at) starts += *at > ' ' && at[-1] <= ' ';
        return starts == wanted;
    }

    static bool all_known(const char* begin, const char* end) {
        return std::none_of(begin, end, [](char c) { return kind(c) == kStranger; });
    }

    // Eight characters looked at together; tests are of 7-bit ones, and mark a byte by its high bit.
    struct Eight {
        static constexpr uint64_t kOnes = 0x0101010101010101, kHigh = 0x80 * kOnes;
        uint64_t value;

        explicit Eight(const char* at) { std::memcpy(&value, at, 8); }

        uint64_t at_least(uint64_t least) const { return ((value | kHigh) - least * kOnes) & kHigh; }

        // Whether all are a space or from '+' to '9': nearly always so.
        bool all_plain() const {
            const uint64_t below = ~at_least(' ') | (at_least('!') & ~at_least('+'));
            return !((value | below | at_least('9' + 1)) & kHigh);
        }

        static int count(uint64_t marks) { return static_cast<int>(((marks >> 7) * kOnes) >> 56); }
    };

    int count(const char* expected, int least, int most) {
        next_line();
        int value = 0;
        if (!number(value) || !numbers_left(0) || value < least || value > most) fail(expected);
        return value;
    }

    uint64_t tracking_id() {
        next_line();
        uint64_t value = 0;
        if (!number(value) || !numbers_left(kBodyNumbers - 1)) fail_numbers("10 numbers of a body");
        return value;
    }

    void coordinates(float* xyz) {
        next_line();
        for (int axis = 0; axis < 3; ++axis) {
            double value = 0;
            const bool finite = number(value) && std::abs(value) <= std::numeric_limits<float>::max();
            if (!finite) fail_numbers("12 finite numbers of a joint");
            xyz[axis] = static_cast<float>(value);
        }
        if (!numbers_left(kJointNumbers - 3)) fail_numbers("12 finite numbers of a joint");
    }

    const char* next_;  // where the next line starts
    const char* end_;
    std::string_view line_;
    std::string_view rest_;  // what of the line has not been read
    int line_number_ = 0;
    bool ended_ = false;
};

inline Skeletons parse_skeletons(std::string_view text) { return SkeletonParser(text).parse(); }

}  // namespace ikem
