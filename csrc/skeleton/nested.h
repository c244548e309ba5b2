// Numbers in nested arrays of JSON, [[[x, y, z], …], …]: frames of joints. Knows nothing of Python.
//
// Reads what JSON has of numbers that are doubles and nothing else; whatever differs is left to the caller,
// who has a parser of all of JSON. Memory is linear in the length of the text.
#pragma once

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

namespace ikem {

struct Nested {
    std::vector<double> numbers;
    size_t length = 0;  // of the array in the text
};

class NestedParser {
  public:
    NestedParser(std::string_view text, size_t joints, size_t coordinates)
        : begin_(text.data()), at_(begin_), end_(begin_ + text.size()), sizes_{joints, coordinates} {}

    // Parses what the text begins with.
    std::optional<Nested> parse() {
        Nested out;
        if (!array(0, out.numbers)) return std::nullopt;
        out.length = static_cast<size_t>(at_ - begin_);
        return out;
    }

  private:
    static bool is_digit(char c) { return '0' <= c && c <= '9'; }

    bool array(int depth, std::vector<double>& numbers) {
        if (!sign('[')) return false;
        for (size_t found = 1;; ++found) {
            if (depth == kDepth ? !number(numbers) : !array(depth + 1, numbers)) return false;
            if (sign(',')) continue;
            return sign(']') && (depth == 0 || found == sizes_[depth - 1]);
        }
    }

    void skip_blanks() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    }

    bool sign(char wanted) {
        skip_blanks();
        const bool there = at_ != end_ && *at_ == wanted;
        at_ += there;
        return there;
    }

    bool number(std::vector<double>& numbers) {
        skip_blanks();
        double value = 0;
        const auto [stop, error] = std::from_chars(at_, end_, value);
        if (error != std::errc() || !is_of_json(at_, stop)) return false;
        numbers.push_back(value);
        at_ = stop;
        return true;
    }

    // Of what from_chars takes, JSON has numbers with digits on both sides of the point, no zeros ahead.
    static bool is_of_json(const char* at, const char* stop) {
        at += *at == '-';
        if (!is_digit(*at)) return false;
        if (*at == '0' && at + 1 != stop && is_digit(at[1])) return false;
        while (at != stop && is_digit(*at)) ++at;
        return at == stop || *at != '.' || (at + 1 != stop && is_digit(at[1]));
    }

    static constexpr int kDepth = 2;  // of the arrays that hold numbers

    const char* begin_;
    const char* at_;
    const char* end_;
    size_t sizes_[kDepth];
};

inline std::optional<Nested> parse_nested(std::string_view text, size_t joints, size_t coordinates) {
    return NestedParser(text, joints, coordinates).parse();
}

}  // namespace ikem
