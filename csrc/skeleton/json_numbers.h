// Numbers in JSON: nested arrays [[[x, y, z], …], …], frames of joints, and flat ones wherever they are.
// Knows nothing of Python.
//
// Reads what JSON has of numbers that are doubles and nothing else; whatever differs is left to the caller,
// who has a parser of all of JSON. Memory is linear in the length of the text.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace ikem {

struct Nested {
    std::vector<double> numbers;
    size_t length = 0;  // of the array in the text
};

struct Pulled {
    std::string text;  // with NaN in the places of the arrays
    std::vector<double> numbers;
    std::vector<int64_t> ends;  // where each array's numbers end
};

class JsonParser {
  public:
    explicit JsonParser(std::string_view text)
        : begin_(text.data()), at_(begin_), end_(begin_ + text.size()) {}

    // Parses the nested array that the text begins with, of so many joints and coordinates.
    std::optional<Nested> nested(size_t joints, size_t coordinates) {
        Nested out;
        const size_t sizes[kDepth] = {joints, coordinates};
        if (!array(0, sizes, out.numbers)) return std::nullopt;
        out.length = static_cast<size_t>(at_ - begin_);
        return out;
    }

    // Pulls out the arrays of at least so many numbers. Nothing if there is a NaN or an infinity already.
    std::optional<Pulled> pull(size_t least) {
        Pulled out;
        while (at_ != end_) {
            const char* from = at_;
            const size_t before = out.numbers.size();
            if (*at_ == '[' && flat(out.numbers) && out.numbers.size() - before >= least) {
                out.text += "NaN";
                out.ends.push_back(static_cast<int64_t>(out.numbers.size()));
                continue;
            }
            out.numbers.resize(before);
            at_ = from;
            if (*at_ == 'N' || *at_ == 'I') return std::nullopt;
            if (*at_ == '"' && !string()) return std::nullopt;
            ++at_;
            out.text.append(from, at_);
        }
        return out;
    }

  private:
    static bool is_digit(char c) { return '0' <= c && c <= '9'; }

    bool array(int depth, const size_t* sizes, std::vector<double>& numbers) {
        if (!sign('[')) return false;
        for (size_t found = 1;; ++found) {
            if (depth == kDepth ? !number(numbers) : !array(depth + 1, sizes, numbers)) return false;
            if (sign(',')) continue;
            return sign(']') && (depth == 0 || found == sizes[depth - 1]);
        }
    }

    bool flat(std::vector<double>& numbers) {
        if (!sign('[')) return false;
        do {
            if (!number(numbers)) return false;
        } while (sign(','));
        return sign(']');
    }

    // Goes from a string's first quotation mark to its last; false where there is none.
    bool string() {
        for (++at_; at_ != end_ && *at_ != '"'; ++at_) {
            if (*at_ == '\\' && ++at_ == end_) return false;
        }
        return at_ != end_;
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
};

}  // namespace ikem
