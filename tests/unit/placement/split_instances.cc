#include "tests/unit/placement/split_instances.h"

#include <algorithm>
#include <random>

namespace thermocline::placement {
namespace {

constexpr int kEmbd = 8192;

std::vector<double> Frequencies(const FullShape& shape, double mean, std::mt19937_64& random) {
  // Beta(a, b) of this mean and a + b = 2: a long hot tail, as ReLU models have it.
  constexpr double kConcentration = 2;
  std::gamma_distribution<double> a(mean * kConcentration), b((1 - mean) * kConcentration);
  std::vector<double> p;
  for (int i = 0; i < shape.n_neurons; ++i) {
    const double x = a(random), y = b(random);
    p.push_back(x + y > 0 ? x / (x + y) : 0.0);
  }
  std::sort(p.rbegin(), p.rend());
  return p;
}

SplitLayer FullLayer(const FullShape& shape, const std::vector<double>& p,
                     const std::vector<double>& bytes_per_s) {
  constexpr double kNeuronBytes = 3.0 * kEmbd * 2;  // gate, up, down rows in F16
  SplitLayer layer;
  layer.seconds.assign(bytes_per_s.size(), {0.0});
  layer.active.push_back(0);
  for (int i = 0; i < shape.n_neurons; i += shape.block_neurons) {
    const int end = std::min(i + shape.block_neurons, shape.n_neurons);
    layer.block_bytes.push_back(static_cast<uint64_t>(kNeuronBytes * (end - i)));
    double active = 0;
    for (int k = i; k < end; ++k) active += p[k];
    layer.active.push_back(layer.active.back() + active);
    for (size_t d = 0; d < bytes_per_s.size(); ++d) {
      layer.seconds[d].push_back(layer.seconds[d].back() + active * kNeuronBytes / bytes_per_s[d]);
    }
  }
  return layer;
}

}  // namespace

SplitProblem RandomProblem(const SmallShape& shape, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto draw = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
  };
  SplitProblem problem;
  std::vector<double> slow;
  for (int d = 0; d < shape.n_devices; ++d) {
    slow.push_back(draw(0.5, 4));
    SplitDevice& device = problem.devices.emplace_back();
    device.part_s = draw(0, 0.5);
    if (d == 0) continue;
    device.send_s = draw(0, 0.5);
    device.send_busy_s = draw(0, device.send_s);
    device.round_trip_s = draw(0, 4);
    device.merge_s = draw(0, 0.3);
  }
  uint64_t bytes = 0;
  for (int l = 0; l < shape.n_layers; ++l) {
    SplitLayer& layer = problem.layers.emplace_back();
    layer.fixed_s = draw(0, 1);
    layer.seconds.assign(shape.n_devices, {0.0});
    std::vector<double> heat;
    for (int k = 0; k < shape.n_blocks; ++k) heat.push_back(draw(0, 3));
    std::sort(heat.rbegin(), heat.rend());
    for (int k = 0; k < shape.n_blocks; ++k) {
      layer.block_bytes.push_back(10);
      bytes += 10;
      for (int d = 0; d < shape.n_devices; ++d) {
        const double own = shape.proportional ? 1 : draw(0.5, 2);
        layer.seconds[d].push_back(layer.seconds[d].back() + own * slow[d] * heat[k]);
      }
    }
    if (!shape.least_parts) continue;
    layer.active.push_back(0);
    for (const double h : heat) layer.active.push_back(layer.active.back() + h);
    for (int d = 0; d < shape.n_devices; ++d) {
      layer.least_active.push_back(d == 0 ? 0 : draw(0, layer.active.back() * 0.6));
    }
  }
  for (SplitDevice& device : problem.devices) {
    // Together at least 1.2 times what is needed.
    device.memory_bytes =
        static_cast<uint64_t>(static_cast<double>(bytes) * draw(1.2, 2.4) / shape.n_devices);
  }
  return problem;
}

SplitProblem FullSizeProblem(const FullShape& shape) {
  struct Kind {
    double bytes_per_s;
    double memory;
    double part_s;
  };
  constexpr Kind kKinds[] = {
      {900e9, 6e9, 4e-6}, {300e9, 2.25e9, 4e-6}, {300e9, 2.25e9, 4e-6}, {60e9, 64e9, 2e-6}};
  constexpr int kMachines = 4;
  SplitProblem problem;
  std::vector<double> bytes_per_s;
  for (int machine = 0; machine < kMachines; ++machine) {
    for (const Kind& kind : kKinds) {
      SplitDevice device{.memory_bytes = static_cast<uint64_t>(kind.memory), .part_s = kind.part_s};
      const bool lead = problem.devices.empty();
      device.send_s = lead ? 0 : 1e-6;
      device.merge_s = lead ? 0 : 0.5e-6;
      // Both ways 16 KB: over PCIe, or at 100 Gbit/s and the latency.
      device.round_trip_s = lead ? 0 : machine == 0 ? 10e-6 : 2 * (shape.one_way_s + 1.3e-6);
      problem.devices.push_back(device);
      bytes_per_s.push_back(kind.bytes_per_s);
    }
  }
  std::mt19937_64 random(shape.seed);
  for (int l = 0; l < shape.n_layers; ++l) {
    const double mean = shape.mean_first + (shape.mean_last - shape.mean_first) *
                                               static_cast<double>(l) / shape.n_layers;
    problem.layers.push_back(FullLayer(shape, Frequencies(shape, mean, random), bytes_per_s));
    SplitLayer& layer = problem.layers.back();
    layer.fixed_s = shape.fixed_s;
    for (const SplitDevice& device : problem.devices) {  // C_ld of docs/placement.md
      const double taken_s = device.send_s + device.merge_s;
      layer.least_active.push_back(taken_s * layer.active.back() / layer.seconds[0].back());
    }
  }
  return problem;
}

}  // namespace thermocline::placement
