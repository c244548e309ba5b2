// A libFuzzer target for the parsers of csrc/skeleton: any bytes must give records or a SkeletonError,
// numbers or nothing, in memory linear in their length. tools/fuzz_skeleton_io.sh builds it with sanitizers
// and runs it.

#include <cstdlib>

#include "../csrc/skeleton/json_numbers.h"
#include "../csrc/skeleton/numbers.h"
#include "../csrc/skeleton/skeleton_parser.h"

namespace {

void parse_numbers(std::string_view text) {
    if (const auto table = ikem::parse_table(text)) {
        const size_t count = table->numbers.size();
        if (count * 2 > text.size() + 1) std::abort();  // a digit and a blank each
        if (table->columns != 0 && count % table->columns != 0) std::abort();
    }
    if (const auto nested = ikem::JsonParser(text).nested(2, 3)) {
        const size_t count = nested->numbers.size();
        if (count == 0 || count % 6 != 0 || nested->length > text.size()) std::abort();
        if (text[nested->length - 1] != ']') std::abort();
    }
    if (const auto pulled = ikem::JsonParser(text).pull(2)) {
        const size_t count = pulled->numbers.size(), arrays = pulled->ends.size();
        if (count < 2 * arrays || pulled->text.size() > text.size() || count * 2 > text.size()) std::abort();
        if (arrays != 0 && static_cast<size_t>(pulled->ends.back()) != count) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    parse_numbers(text);
    try {
        const ikem::Skeletons out = ikem::parse_skeletons(text);
        const size_t records = out.frame.size();
        bool sound = out.frames >= 0 && out.frames <= ikem::kMaxFrames;
        sound &= out.tracking_id.size() == records && out.joints.size() == records * ikem::kJoints * 3;
        sound &= records * ikem::kJoints * ikem::kJointNumbers * 2 <= size + 1;  // a digit and a blank each
        for (int32_t frame : out.frame) sound &= frame >= 0 && frame < out.frames;
        for (float coordinate : out.joints) sound &= std::isfinite(coordinate);
        if (!sound) std::abort();
    } catch (const ikem::SkeletonError&) {
    }
    return 0;
}
