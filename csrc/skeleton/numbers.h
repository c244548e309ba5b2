// Numbers in texts: a line a row, blanks, commas or semicolons between them. Knows nothing of Python: the
// extension module (skeleton_io.cpp) and the fuzz target (tools/fuzz_skeleton_io.cpp) share it.
//
// Reads what is plainly numbers and nothing else. A text with anything besides, such as a word or a number
// beyond a double, is left to ikem_fast/data/formats/text.py, which reads it the slow way or says what is
// wrong. Memory is linear in the length of the text.
#pragma once

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

namespace ikem {

struct Table {
    std::vector<double> numbers;
    size_t columns = 0;  // numbers of every line that has any; 0 where lines differ, or none has
};

class TableParser {
  public:
    explicit TableParser(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

    std::optional<Table> parse() {
        Table out;
        bool even = true;
        while (at_ != end_) {
            const char* begin = at_;
            const size_t before = out.numbers.size();
            if (!line(out.numbers)) return std::nullopt;
            const size_t found = out.numbers.size() - before;
            if (found != 0 && before == 0) {
                out.columns = found;
                const auto lines = (end_ - at_) / (at_ - begin) + 2;  // if all are as long as the first
                out.numbers.reserve(found * static_cast<size_t>(lines));
            }
            even &= found == 0 || found == out.columns;
        }
        if (!even) out.columns = 0;
        return out;
    }

  private:
    static bool is_line_end(char c) { return c == '\n' || c == '\r'; }
    static bool is_between(char c) { return c == ' ' || c == '\t' || c == ',' || c == ';'; }

    // Reads up to the end of the line, and over it; false where there is something else than a number.
    bool line(std::vector<double>& numbers) {
        for (;;) {
            while (at_ != end_ && is_between(*at_)) ++at_;
            if (at_ == end_) return true;
            if (is_line_end(*at_)) {
                ++at_;
                return true;
            }
            double value = 0;
            if (!number(value)) return false;
            numbers.push_back(value);
        }
    }

    bool number(double& value) {
        if (*at_ == '+') {  // which from_chars has none of
            ++at_;
            if (at_ == end_ || *at_ == '-') return false;
        }
        const auto [stop, error] = std::from_chars(at_, end_, value);
        if (error != std::errc() || stop[-1] == ')') return false;  // nan(…)
        at_ = stop;
        return at_ == end_ || is_between(*at_) || is_line_end(*at_);
    }

    const char* at_;
    const char* end_;
};

inline std::optional<Table> parse_table(std::string_view text) { return TableParser(text).parse(); }

}  // namespace ikem
