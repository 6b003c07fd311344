// The kernels as a library for the processor. Arguments come as cuLaunchKernel takes them: an array of pointers to them.
#include "on_host.hpp"

#include "attention.cu"
#include "gate.cu"
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
#define OF_WIDTH(kind, element) NAMED(kind##_##element##_32), NAMED(kind##_##element##_64), NAMED(kind##_##element##_128)
#define OF_TYPE(kind) OF_WIDTH(kind, fp16), OF_WIDTH(kind, bf16)

const std::map<std::string, Call> KERNELS{
    NAMED(pixels_bgr_fp32), NAMED(pixels_rgb_fp32), NAMED(pixels_nv12_fp32), NAMED(pixels_bgr_fp16), NAMED(pixels_rgb_fp16),
    NAMED(pixels_nv12_fp16), NAMED(luminance), NAMED(gate_step), NAMED(gate_say), OF_TYPE(attention_axes), OF_TYPE(attention_axes_masked), OF_TYPE(attention_halves), OF_TYPE(attention_halves_masked),
};

}  // namespace

// Returns 0, or 1 with the reason.
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
