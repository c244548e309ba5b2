// ikem_fast._skeleton_io: from NTU RGB+D `.skeleton` text and tables of numbers to numpy arrays, and from raw
// clips to preprocessed ones, without holding the GIL, and the bytes of old pickles. Knows nothing of torch,
// so that the processes that prepare a dataset stay small.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "preprocessing/preprocessing.h"
#include "skeleton/bounds.h"
#include "skeleton/bus_errors.h"
#include "skeleton/json_numbers.h"
#include "skeleton/latin.h"
#include "skeleton/numbers.h"
#include "skeleton/pickle_scan.h"
#include "skeleton/skeleton_parser.h"

namespace py = pybind11;

namespace {

// An array that takes over a vector's memory.
template <typename T>
py::array_t<T> to_array(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    T* data = owner->data();
    py::capsule release(owner.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
    owner.release();
    return py::array_t<T>(std::move(shape), data, release);
}

py::tuple parse(const py::bytes& text) {
    const auto view = static_cast<std::string_view>(text);
    ikem::Skeletons out;
    {
        py::gil_scoped_release released;
        out = ikem::parse_skeletons(view);
    }
    const auto records = static_cast<py::ssize_t>(out.frame.size());
    return py::make_tuple(out.frames, to_array(std::move(out.frame), {records}),
                          to_array(std::move(out.tracking_id), {records}),
                          to_array(std::move(out.joints), {records, ikem::kJoints, 3}));
}

py::object parse_table(const py::bytes& text) {
    const auto view = static_cast<std::string_view>(text);
    std::optional<ikem::Table> out;
    {
        py::gil_scoped_release released;
        out = ikem::parse_table(view);
    }
    if (!out) return py::none();
    const auto count = static_cast<py::ssize_t>(out->numbers.size());
    return py::make_tuple(to_array(std::move(out->numbers), {count}), out->columns);
}

py::object parse_nested(const py::bytes& text, size_t start, size_t joints, size_t coordinates) {
    const auto view = static_cast<std::string_view>(text);
    if (start > view.size()) throw py::value_error("start: expected a place in the text");
    std::optional<ikem::Nested> out;
    {
        py::gil_scoped_release released;
        out = ikem::JsonParser(view.substr(start)).nested(joints, coordinates);
    }
    if (!out) return py::none();
    const auto count = static_cast<py::ssize_t>(out->numbers.size());
    return py::make_tuple(to_array(std::move(out->numbers), {count}), start + out->length);
}

py::object pull_numbers(const py::bytes& text, size_t least, const std::vector<std::string>& keys) {
    if (keys.size() > 64) throw py::value_error("keys: expected at most 64");
    const auto view = static_cast<std::string_view>(text);
    std::optional<ikem::Pulled> out;
    {
        py::gil_scoped_release released;
        ikem::JsonParser parser(view);
        out = keys.empty() ? parser.pull_flat(least) : parser.pull_records(keys, least);
    }
    if (!out) return py::none();
    const auto count = static_cast<py::ssize_t>(out->numbers.size());
    return py::make_tuple(py::bytes(out->text), to_array(std::move(out->numbers), {count}), out->ends);
}

bool all_within(const py::array_t<float, py::array::c_style>& numbers, float bound) {
    return ikem::all_within(numbers.data(), numbers.size(), bound);
}

py::ssize_t latin_of_utf8(py::array_t<uint8_t, 0> units) {
    if (units.ndim() != 1 || (units.size() > 1 && units.strides(0) != 1)) {
        throw py::value_error("units: expected bytes in a row");
    }
    const ptrdiff_t length = ikem::latin_of_utf8(units.mutable_data(), units.size());
    if (length < 0) throw py::value_error("expected UTF-8 of the characters 0 to 255, found something else");
    return length;
}

bool copy_mapped(const py::buffer& mapped, size_t at, py::array out) {
    const py::buffer_info from = mapped.request();
    const auto there = static_cast<size_t>(from.size * from.itemsize),
               size = static_cast<size_t>(out.nbytes());
    if (!(out.flags() & py::array::c_style)) throw py::value_error("out: expected a contiguous array");
    if (at > there || size > there - at) return false;
    return ikem::copy_mapped(out.mutable_data(), static_cast<const char*>(from.ptr) + at, size);
}

py::tuple plain_run(const py::bytes& block, size_t at, uint32_t memo) {
    const ikem::PlainRun run = ikem::plain_run(static_cast<std::string_view>(block), at, memo);
    return py::make_tuple(run.end, run.tuples);
}

template <typename Real>
std::vector<ikem::RawClip<Real>> views(const std::vector<py::array>& clips, const ikem::Preprocessing& p) {
    std::vector<ikem::RawClip<Real>> raw;
    for (const py::array& clip : clips) {
        if (!clip.dtype().is(py::dtype::of<Real>()) || clip.ndim() != 4 || clip.shape(0) != 3 ||
            clip.shape(2) != p.joints || clip.shape(3) != p.bodies) {
            throw py::value_error("clips: expected arrays (3,F,V,M), all of the same V, M and dtype");
        }
        raw.push_back({static_cast<const Real*>(clip.data()), clip.shape(1), {}});
        for (int i = 0; i < 4; ++i) {
            raw.back().stride[i] = clip.strides(i) / static_cast<py::ssize_t>(sizeof(Real));
        }
    }
    return raw;
}

template <typename Real>
py::tuple preprocess_all(const std::vector<py::array>& clips, const ikem::Preprocessing& p) {
    const std::vector<ikem::RawClip<Real>> raw = views<Real>(clips, p);
    const auto count = static_cast<py::ssize_t>(raw.size());
    py::array_t<float> out({count, py::ssize_t{3}, static_cast<py::ssize_t>(p.frames),
                            static_cast<py::ssize_t>(p.joints), static_cast<py::ssize_t>(p.bodies)});
    py::array_t<int64_t> true_frames(count);
    float* to = out.mutable_data();
    int64_t* frames_to = true_frames.mutable_data();
    {
        py::gil_scoped_release released;
        std::vector<ikem::Pose<Real>> poses(static_cast<size_t>(p.frames * p.bodies));
        std::vector<int32_t> source;
        const auto alone = [] {};
        for (const ikem::RawClip<Real>& clip : raw) {
            source.resize(std::max(source.size(), static_cast<size_t>(clip.frames + 1)));
            ikem::ClipPreprocessor<Real, decltype(alone)> preprocessor(p, clip, source.data(), poses.data(),
                                                                       0, 1, alone);
            *frames_to++ = preprocessor.run(to);
            to += 3 * p.frames * p.joints * p.bodies;
        }
    }
    return py::make_tuple(out, true_frames);
}

py::tuple preprocess(const std::vector<py::array>& clips, int64_t frames, int64_t root, int64_t right,
                     int64_t left) {
    if (clips.empty() || clips[0].ndim() != 4 || frames < 1) {
        throw py::value_error("clips, frames: expected at least one array (3,F,V,M) and frame");
    }
    const ikem::Preprocessing p = {frames, clips[0].shape(2), clips[0].shape(3), root, right, left};
    if (std::min({root, right, left}) < 0 || std::max({root, right, left}) >= p.joints) {
        throw py::value_error("root, right, left: expected joints of the clips");
    }
    return clips[0].dtype().is(py::dtype::of<double>()) ? preprocess_all<double>(clips, p)
                                                        : preprocess_all<float>(clips, p);
}

}  // namespace

PYBIND11_MODULE(_skeleton_io, module) {
    module.doc() =
        "NTU RGB+D .skeleton text and tables to numpy arrays, raw clips to preprocessed ones, old pickles";
    py::register_exception_translator([](std::exception_ptr error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const ikem::SkeletonError& malformed) {
            py::set_error(PyExc_ValueError, malformed.what());
        }
    });
    module.def(
        "parse", &parse, py::arg("text"),
        "(frames, frame (R,) int32, tracking_id (R,) uint64, joints (R, 25, 3) float32) of a file's bytes: "
        "R records, one for each body of each frame. Raises ValueError naming the line that is wrong.");
    module.def("parse_table", &parse_table, py::arg("text"),
               "(numbers (K,) float64, how many every line has, or 0 where they differ) of a text of numbers "
               "between "
               "blanks, commas or semicolons; None where it has anything else in it.");
    module.def(
        "parse_nested", &parse_nested, py::arg("text"), py::arg("start"), py::arg("joints"),
        py::arg("coordinates"),
        "(numbers (K,) float64, where it ends) of an array of JSON that starts there, of arrays of so many "
        "joints, arrays of so many coordinates; None where it is anything else.");
    module.def(
        "pull_numbers", &pull_numbers, py::arg("text"), py::arg("least"), py::arg("keys"),
        "(JSON with NaN in the places of flat arrays of at least so many numbers, these numbers (K,) "
        "float64, where each array's end); with keys of arrays of so many objects, of whose numbers by "
        "these; None where there is a NaN or an infinity already.");
    module.def(
        "preprocess", &preprocess, py::arg("clips"), py::arg("frames"), py::arg("root"), py::arg("right"),
        py::arg("left"),
        "(clips (N, 3, frames, V, M) float32, true frame counts (N,) int64) of raw clips (3, F, V, M), "
        "all float32 or all float64: what ikem_fast.ops.preprocess_clips computes, a clip at a time.");
    module.def(
        "all_within", &all_within, py::arg("numbers").noconvert(), py::arg("bound"),
        "Whether all numbers of a contiguous float32 array are below a bound in magnitude; NaN is not.");
    module.def(
        "latin_of_utf8", &latin_of_utf8, py::arg("units").noconvert(),
        "Turns (N,) uint8, a text of the characters 0 to 255 in UTF-8, into a byte for each, in place; "
        "returns how many there are. Raises ValueError where it is something else, and spoils it.");
    module.def("copy_mapped", &copy_mapped, py::arg("mapped"), py::arg("at"), py::arg("out").noconvert(),
               "Copies the bytes of a mapped file from a place on into an array; returns whether they were "
               "all there, as those of a file that is cut short meanwhile are not.");
    module.def(
        "plain_run", &plain_run, py::arg("block"), py::arg("at"), py::arg("memo"),
        "(end, tuples): where the plain instructions of a pickle end that are in a block from a place on, "
        "and how many of them make a tuple. Plain are those of a fixed length and short texts; memo "
        "numbers of four bytes below `memo`.");
    module.def(
        "end_at_bus_errors", &ikem::end_at_bus_errors, py::arg("message"),
        "Whether a bus error (a mapped file was cut short) from now on is said with this message and ends "
        "the process with status 2; an empty one: whether it is as before again.");
}
