// A libFuzzer target for csrc/skeleton/skeleton_parser.h: any bytes must give either records or a SkeletonError, in
// memory linear in their length. tools/fuzz_skeleton_io.sh builds it with sanitizers and runs it.

#include <cstdlib>

#include "../csrc/skeleton/skeleton_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        const ikem::Skeletons out =
            ikem::parse_skeletons(std::string_view(reinterpret_cast<const char*>(data), size));
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
