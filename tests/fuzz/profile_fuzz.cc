// Any bytes as a profile: what is read can be summed up and written.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "model/neuron_activity.h"
#include "model/sparsity_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline::model;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto profile = ReadSparsityProfile(*ReadFromMemory(bytes, "fuzz"));
  if (!profile.ok()) return 0;
  for (const LayerActivity& layer : profile->layers) {
    const double density = Density(layer.fired, profile->n_tokens);
    CHECK(density >= 0 && density <= 1);
    CHECK(Gini(layer.fired) < 1 && ShareForMass(layer.fired, 0.8) <= 1);
    CHECK(layer.fired.size() == static_cast<size_t>(profile->n_ff()));
  }
  return 0;
}
