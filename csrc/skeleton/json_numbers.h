// Numbers in JSON: nested arrays [[[x, y, z], …], …], frames of joints; and wherever they are flat ones, and
// arrays of records [{"x": …, "y": …}, …].
// Knows nothing of Python.
//
// Reads what JSON has of numbers that are doubles and nothing else; whatever differs is left to the caller,
// who has a parser of all of JSON. Memory is linear in the length of the text.
#pragma once

#include <algorithm>
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
    std::optional<Pulled> pull_flat(size_t least) {
        return pull(least, [this](std::vector<double>& numbers) { return flat(numbers); });
    }

    // Pulls out the arrays of at least so many objects that have a number by each of these keys, at most 64,
    // and no arrays or objects by others: of each the numbers in the order of the keys.
    std::optional<Pulled> pull_records(const std::vector<std::string>& keys, size_t least) {
        return pull(least * keys.size(),
                    [&](std::vector<double>& numbers) { return records(keys, numbers); });
    }

  private:
    static bool is_digit(char c) { return '0' <= c && c <= '9'; }

    template <typename Take>
    std::optional<Pulled> pull(size_t least, Take take) {
        Pulled out;
        while (at_ != end_) {
            const char* from = at_;
            const size_t before = out.numbers.size();
            if (*at_ == '[' && take(out.numbers) && out.numbers.size() - before >= least) {
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

    bool records(const std::vector<std::string>& keys, std::vector<double>& numbers) {
        if (!sign('[')) return false;
        do {
            numbers.resize(numbers.size() + keys.size());
            if (!record(keys, numbers.data() + numbers.size() - keys.size())) return false;
        } while (sign(','));
        return sign(']');
    }

    // The last value counts where a key is there twice.
    bool record(const std::vector<std::string>& keys, double* values) {
        if (!sign('{')) return false;
        uint64_t missing = ~uint64_t{0} >> (64 - keys.size());
        do {
            std::string_view key;
            if (!plain(key) || !sign(':')) return false;
            const size_t place = static_cast<size_t>(std::find(keys.begin(), keys.end(), key) - keys.begin());
            if (place == keys.size()) {
                if (!scalar()) return false;
            } else {
                if (!number(values[place])) return false;
                missing &= ~(uint64_t{1} << place);
            }
        } while (sign(','));
        return sign('}') && !missing;
    }

    // Goes behind a value that is no array and no object, of whatever kind.
    bool scalar() {
        skip_blanks();
        std::string_view text;
        if (at_ != end_ && *at_ == '"') return plain(text);
        for (const std::string_view word : {"true", "false", "null"}) {
            if (std::string_view(at_, static_cast<size_t>(end_ - at_)).substr(0, word.size()) == word) {
                at_ += word.size();
                return true;
            }
        }
        double value = 0;
        return number(value);
    }

    // Goes from a string's first quotation mark to its last; false where there is none.
    bool string() {
        for (++at_; at_ != end_ && *at_ != '"'; ++at_) {
            if (*at_ == '\\' && ++at_ == end_) return false;
        }
        return at_ != end_;
    }

    // A string as it is, of ASCII that prints, without escapes: what is not kept has to be JSON, too.
    bool plain(std::string_view& text) {
        if (!sign('"')) return false;
        const char* begin = at_;
        while (at_ != end_ && ' ' <= *at_ && *at_ <= '~' && *at_ != '"' && *at_ != '\\') ++at_;
        text = std::string_view(begin, static_cast<size_t>(at_ - begin));
        return at_ != end_ && *at_++ == '"';
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
        double value = 0;
        if (!number(value)) return false;
        numbers.push_back(value);
        return true;
    }

    bool number(double& value) {
        skip_blanks();
        const auto [stop, error] = std::from_chars(at_, end_, value);
        if (error != std::errc() || !is_of_json(at_, stop)) return false;
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
