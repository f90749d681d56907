// Layers and devices as bounds of all plans ask about them: each layer on all devices, under any
// lead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// By device: the first of its type.
std::vector<int> FirstOfTypes(const StageModel& model);

// A layer by itself, with the tables of it. Immutable; the tables borrow the problem, so it stays
// where it is.
struct LayerForm {
  explicit LayerForm(SplitProblem of);
  LayerForm(const LayerForm&) = delete;
  LayerForm& operator=(const LayerForm&) = delete;

  const SplitProblem problem;
  const LayerTables tables;
};

// A layer under a lead, in the two forms that it may have there. Null: the numbers are impossible.
struct LedLayer {
  int layer = 0;
  int lead = 0;
  // On all devices (LedLayers::Group), each with all its memory and any part allowed.
  std::unique_ptr<const LayerForm> shared;
  std::unique_ptr<const LayerForm> alone;  // on the lead
};

// Borrows the model. Immutable.
class LedLayers {
 public:
  explicit LedLayers(const StageModel& model);

  int n_layer() const { return model_.n_layer(); }
  int n_devices() const { return model_.n_devices(); }
  // The first device of each type, which stands for the others.
  const std::vector<int>& leads() const { return leads_; }
  // Devices of the type of leads()[type].
  double n_alike(size_t type) const { return n_alike_[type]; }
  size_t type(int device) const { return types_[device]; }
  // Of a device, for neurons and for what it leads; 1 or more.
  double memory(int device) const;
  double lead_bytes(int layer, int device) const;
  double helper_bytes(int device) const { return helper_bytes_[device]; }
  // The most layers in a row that a device has memory to lead.
  int cap(int device) const { return caps_[device]; }
  // The least time between two stages.
  double least_hop_s() const { return least_hop_s_; }

  // All devices, `lead` first: the order of devices in the problems of a layer under it.
  std::vector<int> Group(int lead) const;
  LedLayer Of(int layer, int lead) const;
  // By layer: the first one that is equal to it whoever leads.
  std::vector<int> FirstOfLayerKinds() const;

 private:
  std::optional<SplitProblem> Shared(int layer, int lead) const;
  std::optional<SplitProblem> Alone(int layer, int lead) const;

  const StageModel& model_;
  std::vector<int> leads_, caps_;
  std::vector<size_t> types_;
  std::vector<double> n_alike_;
  std::vector<uint64_t> most_memory_;
  std::vector<double> helper_bytes_;
  std::vector<std::vector<uint64_t>> lead_bytes_;  // by type, by layer
  double least_hop_s_ = 0;
};

}  // namespace thermocline::placement
