// ikem_fast._skeleton_io: NTU RGB+D `.skeleton` text to numpy arrays, without holding the GIL.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include "skeleton_parser.h"

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

}  // namespace

PYBIND11_MODULE(_skeleton_io, module) {
    module.doc() = "NTU RGB+D .skeleton text to numpy arrays";
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
}
