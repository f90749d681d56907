#include "placement/plan_tables.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <utility>

#include "base/str.h"
#include "placement/json_text.h"

namespace thermocline::placement {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kTables[] = "neuron_tables";
constexpr char kOrder[] = "neuron_order";
constexpr char kFileOrder[] = "file";
constexpr size_t kOrderDigits = 16;
// Shorter runs take no less text as single neurons.
constexpr int32_t kLeastRun = 3;

bool IsFileOrder(std::span<const int32_t> neurons) {
  for (size_t place = 0; place < neurons.size(); ++place) {
    if (static_cast<size_t>(neurons[place]) != place) return false;
  }
  return true;
}

Status Broken(const std::string& where, const std::string& what) {
  return InvalidArgument(Str("plan: ", where, " ", what));
}

// ---- Reading

// A neuron, or [begin, end).
std::optional<NeuronRun> RunOf(const Json& json) {
  const auto is_within = [](const Json& value, uint64_t most) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= most;
  };
  if (is_within(json, model::kMaxFf - 1)) {
    const auto neuron = json.get<int32_t>();
    return NeuronRun{neuron, neuron + 1};
  }
  if (!json.is_array() || json.size() != 2) return std::nullopt;
  if (!is_within(json[0], model::kMaxFf) || !is_within(json[1], model::kMaxFf)) return std::nullopt;
  const NeuronRun run{json[0].get<int32_t>(), json[1].get<int32_t>()};
  return run.begin < run.end ? std::optional(run) : std::nullopt;
}

Status ReadTable(const Json& json, const std::string& where, std::vector<NeuronRun>* table) {
  if (!json.is_array()) return Broken(where, "is not a list of neurons");
  table->reserve(json.size());
  for (const Json& entry : json) {
    const auto run = RunOf(entry);
    if (!run) {
      return Broken(Str(where, "[", table->size(), "]"),
                    Str("is neither a neuron nor [begin, end), within 0..", model::kMaxFf));
    }
    table->push_back(*run);
  }
  return OkStatus();
}

Status ReadTables(const Json& json, PlanTables* tables) {
  if (!json.is_array() || json.empty() || json.size() > model::kMaxLayers) {
    return Broken(kTables, Str("is not a list of one table per layer, 1..", model::kMaxLayers));
  }
  tables->layers.resize(json.size());
  for (size_t layer = 0; layer < json.size(); ++layer) {
    TC_RETURN_IF_ERROR(
        ReadTable(json[layer], Str(kTables, "[", layer, "]"), &tables->layers[layer]));
  }
  return OkStatus();
}

Status ReadOrder(const Json& json, PlanTables* tables) {
  const std::string text = json.is_string() ? json.get<std::string>() : "";
  uint64_t id = 0;
  if (text != kFileOrder) {
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, id, 16);
    if (text.size() != kOrderDigits || parsed.ec != std::errc() || parsed.ptr != end || id == 0) {
      return Broken(kOrder, Str("is neither \"", kFileOrder, "\" nor ", kOrderDigits,
                                " hexadecimal digits: ", Printable(text)));
    }
  }
  tables->order = id;
  return OkStatus();
}

// ---- A model's order

Result<std::vector<int32_t>> Expand(const std::vector<NeuronRun>& table, size_t layer,
                                    int64_t n_ff) {
  const std::string where = Str(kTables, "[", layer, "]");
  constexpr int32_t kNowhere = -1;
  std::vector<int32_t> places(static_cast<size_t>(n_ff), kNowhere);
  std::vector<int32_t> neurons;
  neurons.reserve(places.size());
  for (const NeuronRun& run : table) {
    for (int32_t neuron = run.begin; neuron < run.end; ++neuron) {
      if (neuron >= n_ff) {
        return Broken(where, Str("has neuron ", neuron, ", the layer has ", n_ff));
      }
      int32_t& place = places[static_cast<size_t>(neuron)];
      if (place != kNowhere) {
        return Broken(where, Str("has neuron ", neuron, " twice, at places ", place, " and ",
                                 neurons.size()));
      }
      place = static_cast<int32_t>(neurons.size());
      neurons.push_back(neuron);
    }
  }
  if (neurons.size() == places.size()) return neurons;
  const auto missing = std::find(places.begin(), places.end(), kNowhere) - places.begin();
  return Broken(where, Str("lacks neuron ", missing, ": it has ", neurons.size(), " of ", n_ff));
}

// Runs of neighbours, in the order of `neurons`.
std::vector<NeuronRun> RunsOf(std::span<const int32_t> neurons) {
  std::vector<NeuronRun> runs;
  for (const int32_t neuron : neurons) {
    if (!runs.empty() && runs.back().end == neuron) {
      ++runs.back().end;
    } else {
      runs.push_back({neuron, neuron + 1});
    }
  }
  return runs;
}

// ---- Writing

std::string TableText(const std::vector<NeuronRun>& table) {
  std::string text;
  const auto add = [&](const std::string& entry) {
    if (!text.empty()) text += ',';
    text += entry;
  };
  for (const NeuronRun& run : table) {
    if (run.end - run.begin >= kLeastRun) {
      add(Str("[", run.begin, ",", run.end, "]"));
      continue;
    }
    for (int32_t neuron = run.begin; neuron < run.end; ++neuron) add(Str(neuron));
  }
  return Str("[", text, "]");
}

}  // namespace

uint64_t OrderId(const model::NeuronOrder& order, int n_layer) {
  model::NeuronOrder plain;
  for (int layer = 0; layer < n_layer; ++layer) {
    const auto neurons = order.Of(layer);
    auto& table = plain.layers.emplace_back();
    if (!IsFileOrder(neurons)) table.assign(neurons.begin(), neurons.end());
  }
  return model::ChecksumOf(plain, 0, n_layer);
}

std::string OrderName(uint64_t id) {
  if (id == 0) return kFileOrder;
  std::string text(kOrderDigits, '0');
  for (size_t i = kOrderDigits; i-- > 0; id >>= 4) text[i] = "0123456789abcdef"[id & 15];
  return text;
}

bool AreEqualTables(std::span<const int32_t> a, std::span<const int32_t> b) {
  if (a.empty()) return IsFileOrder(b);
  if (b.empty()) return IsFileOrder(a);
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

PlanTables TablesOf(const model::NeuronOrder& order, const model::ModelConfig& config) {
  PlanTables tables{.order = OrderId(order, config.n_layer)};
  for (int layer = 0; layer < config.n_layer; ++layer) {
    const auto neurons = order.Of(layer);
    tables.layers.push_back(neurons.empty()
                                ? std::vector<NeuronRun>{{0, static_cast<int32_t>(config.n_ff)}}
                                : RunsOf(neurons));
  }
  return tables;
}

Result<model::NeuronOrder> OrderIn(const PlanTables& tables, const model::ModelConfig& config) {
  model::NeuronOrder order;
  if (!tables.has_tables()) return order;
  const auto n_layer = static_cast<size_t>(config.n_layer);
  if (tables.layers.size() != n_layer) {
    return Broken(kTables,
                  Str("are of ", tables.layers.size(), " layers, the model has ", n_layer));
  }
  for (size_t layer = 0; layer < n_layer; ++layer) {
    TC_ASSIGN_OR_RETURN(auto neurons, Expand(tables.layers[layer], layer, config.n_ff));
    order.layers.push_back(std::move(neurons));
  }
  const uint64_t id = OrderId(order, config.n_layer);
  if (!tables.order || *tables.order == id) return order;
  return Broken(kOrder, Str("is ", OrderName(*tables.order), ", but the order of ", kTables, " is ",
                            OrderName(id), "; leave it out after editing tables"));
}

std::string OrderNote(const PlanTables& tables, uint64_t now) {
  if (tables.has_tables() || !tables.order || *tables.order == now) return "";
  const auto name = [](uint64_t id) {
    return id == 0 ? std::string("the model file's") : OrderName(id);
  };
  return Str("the plan was made with another order of neurons (", name(*tables.order),
             ") than is used here (", name(now),
             "): its intervals hold other neurons now; tokens are the same, its speed may not be. "
             "Made with --with-neuron-tables, a plan keeps its order");
}

std::vector<NeuronHeat> HeatsInOrder(const std::vector<NeuronHeat>& heats,
                                     const model::NeuronOrder& now,
                                     const model::NeuronOrder& next) {
  std::vector<NeuronHeat> result = heats;
  if (next.layers.empty()) return result;
  for (size_t l = 0; l < heats.size(); ++l) {
    const auto from = now.Of(static_cast<int>(l)), to = next.Of(static_cast<int>(l));
    if (to.empty() || AreEqualTables(from, to)) continue;
    const std::vector<int32_t> places = model::PlacesOf(from);
    std::vector<double> fires;
    for (const int32_t neuron : to) {
      const auto at = static_cast<size_t>(neuron);
      fires.push_back(heats[l].fires()[places.empty() ? at : static_cast<size_t>(places[at])]);
    }
    result[l] = NeuronHeat::InPlaces(std::move(fires));
  }
  return result;
}

std::string PlanFileToJson(const Plan& plan, const PlanTables& tables, PlanLink link) {
  std::string text = PlanToJson(plan, link);
  if (!tables.order && !tables.has_tables()) return text;
  text.erase(text.rfind("\n}"));
  if (tables.order) text += Str(",\n  \"", kOrder, "\": \"", OrderName(*tables.order), "\"");
  if (tables.has_tables()) {
    text += Str(",\n  \"", kTables, "\": [");
    for (size_t layer = 0; layer < tables.layers.size(); ++layer) {
      text += Str(layer == 0 ? "" : ",", "\n    ", TableText(tables.layers[layer]));
    }
    text += "\n  ]";
  }
  return text + "\n}\n";
}

Result<PlanFile> PlanFileFromJson(std::string_view text, const Plan& defaults, SaidOfLinks* said) {
  PlanFile file;
  const bool is_plain = text.find(kTables) == text.npos && text.find(kOrder) == text.npos;
  if (is_plain) {
    TC_ASSIGN_OR_RETURN(file.plan, PlanFromJson(text, defaults, said));
    return file;
  }
  TC_ASSIGN_OR_RETURN(Json json, ParsePlanText(text, kMaxPlanFileBytes));
  if (json.is_object()) {
    if (const auto tables = json.find(kTables); tables != json.end()) {
      TC_RETURN_IF_ERROR(ReadTables(*tables, &file.tables));
    }
    if (const auto order = json.find(kOrder); order != json.end()) {
      TC_RETURN_IF_ERROR(ReadOrder(*order, &file.tables));
    }
    json.erase(kTables);
    json.erase(kOrder);
  }
  const std::string rest = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  TC_ASSIGN_OR_RETURN(file.plan, PlanFromJson(rest, defaults, said));
  return file;
}

}  // namespace thermocline::placement
