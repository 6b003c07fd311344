// The kernels as a library for the CPU. Arguments are passed as to cuLaunchKernel: an array of pointers to them.
#include "on_host.hpp"

#include "attention.cu"
#include "pixels.cu"

#include <map>
#include <utility>

namespace {

using Call = std::function<void(void**)>;

template <typename... Arguments, size_t... I>
Call call(void (*kernel)(Arguments...), std::index_sequence<I...>) {
    return [=](void** arguments) { kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[I])...); };
}

template <typename... Arguments>
Call call(void (*kernel)(Arguments...)) { return call(kernel, std::index_sequence_for<Arguments...>{}); }

#define NAMED(name) {#name, call(name)}
#define ATTENTION_DTYPES(kind) \
    NAMED(kind##_fp16_32), NAMED(kind##_fp16_64), NAMED(kind##_bf16_32), NAMED(kind##_bf16_64)

const std::map<std::string, Call> KERNELS{
    ATTENTION_DTYPES(attention_axes), ATTENTION_DTYPES(attention_halves), NAMED(pixels_bgr_fp32), NAMED(pixels_bgr_fp16),
    NAMED(pixels_nv12_fp32), NAMED(pixels_nv12_fp16), NAMED(luminance),
};

}  // namespace

// Returns 0, or 1 with the error's text in `why`.
extern "C" int launch(
    const char* name, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned seed, void** arguments, char* why, size_t room) {
    try {
        host::launch({x, y, z}, threads, seed, [&] { KERNELS.at(name)(arguments); });
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(why, room, "%s", error.what());
        return 1;
    }
}
