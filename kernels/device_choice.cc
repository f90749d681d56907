#include "kernels/device_choice.h"

#include <charconv>
#include <utility>

#include "base/str.h"

namespace thermocline::kernels {
namespace {

constexpr std::string_view kCudaPrefix = "cuda:";
constexpr int kMaxOrdinal = 1023;  // no machine has as many GPUs: a larger one is a typing error

Result<ChosenDevice> MakeCpu(const CpuDeviceOptions& cpu, std::string note) {
  TC_ASSIGN_OR_RETURN(auto device, MakeCpuDevice(cpu));
  if (!note.empty()) note = Str("no GPU (", note, "): computing on ", device->name());
  return ChosenDevice{std::move(device), std::move(note)};
}

}  // namespace

Result<DeviceChoice> ParseDeviceChoice(std::string_view text) {
  using Kind = DeviceChoice::Kind;
  if (text == "auto") return DeviceChoice{};
  if (text == "cpu") return DeviceChoice{.kind = Kind::kCpu};
  if (text == "cuda") return DeviceChoice{.kind = Kind::kCuda};
  if (text.starts_with(kCudaPrefix)) {
    const std::string_view number = text.substr(kCudaPrefix.size());
    DeviceChoice choice{.kind = Kind::kCuda, .has_ordinal = true};
    const auto parsed = std::from_chars(number.begin(), number.end(), choice.ordinal);
    const bool is_number = parsed.ec == std::errc() && parsed.ptr == number.end();
    if (is_number && 0 <= choice.ordinal && choice.ordinal <= kMaxOrdinal) return choice;
  }
  return InvalidArgument(Str("no device: ", text, "; there are auto, cpu, cuda and cuda:N"));
}

Result<ChosenDevice> MakeDevice(const DeviceChoice& choice, const CpuDeviceOptions& cpu) {
  if (choice.kind == DeviceChoice::Kind::kCpu) return MakeCpu(cpu, "");
  auto gpu = MakeCudaDevice(choice.ordinal);
  if (gpu.ok()) return ChosenDevice{*std::move(gpu), ""};
  if (choice.kind == DeviceChoice::Kind::kCuda) return gpu.status();
  return MakeCpu(cpu, gpu.status().message());
}

}  // namespace thermocline::kernels
