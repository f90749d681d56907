// ParseShaping: how people say what a link should be like.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/str.h"
#include "comm/link.h"

namespace thermocline::comm {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr Unit kTimes[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
constexpr Unit kRates[] = {{"MB/s", 1e6}, {"GB/s", 1e9}};
constexpr Unit kPlain[] = {{"", 1}};
// A frame held for longer would look like a dead peer.
constexpr double kMaxLatencyS = 10;

// A number that is not negative, with one of the units.
template <size_t kCount>
std::optional<double> Number(std::string_view text, const Unit (&units)[kCount]) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  const std::string_view rest(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
  for (const Unit& unit : units) {
    if (rest == unit.name) return value * unit.factor;
  }
  return std::nullopt;
}

bool Apply(std::string_view name, std::string_view text, ShapingOptions* options) {
  if (name == "latency") {
    const auto seconds = Number(text, kTimes);
    if (!seconds || *seconds > kMaxLatencyS) return false;
    options->latency = std::chrono::round<Duration>(std::chrono::duration<double>(*seconds));
    return true;
  }
  if (name == "bandwidth") {
    const auto rate = Number(text, kRates);
    options->bytes_per_s = rate.value_or(0);
    return options->bytes_per_s > 0;
  }
  const auto plain = Number(text, kPlain);
  if (!plain) return false;
  if (name == "drop") {
    options->drop_rate = *plain;
    return *plain <= 1;
  }
  if (name == "seed" && *plain < 0x1p53) {
    options->seed = static_cast<uint64_t>(*plain);
    return true;
  }
  return false;
}

}  // namespace

Result<ShapingOptions> ParseShaping(std::string_view text) {
  ShapingOptions options;
  std::set<std::string_view> seen;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    const size_t equals = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, equals);
    const std::string_view value = part.substr(std::min(equals + 1, part.size()));
    if (!seen.insert(name).second || !Apply(name, value, &options)) {
      return InvalidArgument(Str("not understood: ", Printable(std::string(part)),
                                 "; as in latency=200us,bandwidth=1.25GB/s,drop=0.001,seed=7"));
    }
    begin = end + 1;
  }
  return options;
}

}  // namespace thermocline::comm
