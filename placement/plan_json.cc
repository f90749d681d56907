// Plans as JSON. What else a plan file may hold is in plan_tables.cc.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/str.h"
#include "placement/context.h"
#include "placement/json_text.h"
#include "placement/plan.h"

namespace thermocline::placement {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPlanFormatVersion = 1;
constexpr size_t kMaxFingerprintBytes = 256;

// Reads the fields of one object; the first error sticks, and a field that nobody asked for is one.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Fail(path_.empty() ? "plan" : path_, "is not an object");
  }

  // `low` <= value <= `high`; absent fields leave `out` as it is.
  template <typename Int>
  void Integer(const char* name, uint64_t low, uint64_t high, Int* out) {
    const Json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_number_unsigned() || field->get<uint64_t>() < low ||
        field->get<uint64_t>() > high) {
      return Fail(Name(name), Str("is not an integer in ", low, "..", high));
    }
    *out = static_cast<Int>(field->get<uint64_t>());
  }

  void Text(const char* name, size_t max_bytes, std::string* out) {
    const Json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_string() || field->get_ref<const std::string&>().size() > max_bytes) {
      return Fail(Name(name), Str("is not a string of at most ", max_bytes, " bytes"));
    }
    *out = field->get<std::string>();
  }

  void FloatType(const char* name, DType* out) {
    std::string text(DTypeName(*out));
    Text(name, 16, &text);
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      if (text == DTypeName(type)) {
        *out = type;
        return;
      }
    }
    Fail(Name(name), Str("is not F32, F16 or BF16: ", Printable(text)));
  }

  void LinkName(const char* name, LinkKind* out) {
    std::string text(LinkKindName(*out));
    Text(name, 16, &text);
    const auto kind = ParseLinkKind(text);
    if (!kind.ok()) return Fail(Name(name), Str("is not mpi or zmq: ", Printable(text)));
    *out = *kind;
  }

  // What one link says for itself.
  void Link(LinkChoice* out) {
    if (Find("link") != nullptr) LinkName("link", &out->link.emplace());
    if (Find("wire") != nullptr) FloatType("wire", &out->wire.emplace());
  }

  const Json* Find(const char* name) {
    known_.insert(name);
    if (!status_.ok()) return nullptr;
    const auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }

  void Fail(const std::string& field, const std::string& what) {
    if (status_.ok()) status_ = InvalidArgument(Str("plan: ", field, " ", what));
  }

  std::string Name(std::string_view name) const {
    return path_.empty() ? std::string(name) : Str(path_, ".", name);
  }

  // After the last field.
  Status Finish() {
    if (!status_.ok()) return status_;
    for (const auto& item : object_.items()) {
      if (!known_.contains(item.key())) {
        return InvalidArgument(Str("plan: unknown field: ", Name(Printable(item.key()))));
      }
    }
    return OkStatus();
  }

 private:
  const Json& object_;
  const std::string path_;
  std::set<std::string, std::less<>> known_;
  Status status_;
};

constexpr uint64_t kAnyU64 = std::numeric_limits<uint64_t>::max();

void ReadLayers(FieldReader* reader, model::LayerRange* layers) {
  const Json* field = reader->Find("layers");
  const auto is_bound = [](const Json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= model::kMaxLayers;
  };
  if (field == nullptr) return reader->Fail(reader->Name("layers"), "is missing");
  if (!field->is_array() || field->size() != 2 || !is_bound((*field)[0]) ||
      !is_bound((*field)[1])) {
    return reader->Fail(reader->Name("layers"),
                        Str("is not [begin, end) with both in 0..", model::kMaxLayers));
  }
  layers->begin = (*field)[0].get<int>();
  layers->end = (*field)[1].get<int>();
}

bool IsNeuronRange(const Json& value) {
  if (!value.is_array() || value.size() != 2) return false;
  for (const Json& bound : value) {
    if (!bound.is_number_unsigned() || bound.get<uint64_t>() > model::kMaxFf) return false;
  }
  return value[0].get<int64_t>() <= value[1].get<int64_t>();
}

NeuronRange ToNeuronRange(const Json& pair) {
  return {pair[0].get<int64_t>(), pair[1].get<int64_t>()};
}

// [[begin, end], ...] by layer, or one [begin, end] for every layer.
void ReadNeurons(FieldReader* reader, size_t n_layers, std::vector<NeuronRange>* out) {
  const Json* field = reader->Find("neurons");
  if (field == nullptr) return;
  if (IsNeuronRange(*field)) {
    out->assign(n_layers, ToNeuronRange(*field));
    return;
  }
  if (!field->is_array() || field->size() != n_layers ||
      !std::all_of(field->begin(), field->end(), IsNeuronRange)) {
    return reader->Fail(reader->Name("neurons"),
                        Str("is neither [begin, end) nor a list of one per layer (", n_layers,
                            "), within 0..", model::kMaxFf));
  }
  out->clear();
  for (const Json& pair : *field) out->push_back(ToNeuronRange(pair));
}

// [begin, end) of a stage's KV heads; how many the model has, ValidatePlan knows.
void ReadHeads(FieldReader* reader, HeadRange* out) {
  const Json* field = reader->Find("heads");
  if (field == nullptr) return;
  const auto is_bound = [](const Json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= model::kMaxHeads;
  };
  if (!field->is_array() || field->size() != 2 || !is_bound((*field)[0]) ||
      !is_bound((*field)[1]) || (*field)[0].get<int>() > (*field)[1].get<int>()) {
    return reader->Fail(reader->Name("heads"),
                        Str("is not [begin, end) with both in 0..", model::kMaxHeads));
  }
  *out = {(*field)[0].get<int>(), (*field)[1].get<int>()};
}

Status ReadHelper(const Json& object, const std::string& path, size_t n_layers,
                  HelperPlan* helper) {
  FieldReader reader(object, path);
  if (reader.Find("worker") == nullptr) reader.Fail(reader.Name("worker"), "is missing");
  if (reader.Find("neurons") == nullptr && reader.Find("heads") == nullptr) {
    reader.Fail(reader.Name("neurons"), "is missing");
  }
  reader.Integer("worker", 0, kAnyU64, &helper->worker.value);
  helper->neurons.assign(n_layers, {});  // of one that has heads only
  ReadNeurons(&reader, n_layers, &helper->neurons);
  ReadHeads(&reader, &helper->heads);
  reader.Integer("weights_bytes", 0, kAnyU64, &helper->bytes.weights);
  reader.Integer("relay_bytes", 0, kAnyU64, &helper->bytes.relay);
  reader.Integer("predictor_bytes", 0, kAnyU64, &helper->bytes.predictors);
  reader.Integer("saved_bytes", 0, kAnyU64, &helper->bytes.saved);
  reader.Integer("kv_bytes", 0, kAnyU64, &helper->kv_bytes);
  reader.Text("reason", kMaxReasonBytes, &helper->reason);
  reader.Link(&helper->to_lead);
  return reader.Finish();
}

Status ReadHelpers(FieldReader* reader, StagePlan* stage) {
  const Json* field = reader->Find("helpers");
  if (field == nullptr) {
    for (const char* own : {"neurons", "heads"}) {
      if (reader->Find(own) == nullptr) continue;
      reader->Fail(reader->Name(own),
                   "are the lead's own beside those of helpers, but it has no helpers: alone it "
                   "computes all of them");
    }
    return OkStatus();
  }
  if (!field->is_array() || field->size() > kMaxHelpers) {
    reader->Fail(reader->Name("helpers"), Str("is not a list of at most ", kMaxHelpers));
    return OkStatus();
  }
  const auto n_layers = static_cast<size_t>(std::max(0, stage->layers.end - stage->layers.begin));
  ReadNeurons(reader, n_layers, &stage->neurons);
  ReadHeads(reader, &stage->heads);
  stage->helpers.resize(field->size());
  for (size_t i = 0; i < field->size(); ++i) {
    const std::string path = Str(reader->Name("helpers"), "[", i, "]");
    TC_RETURN_IF_ERROR(ReadHelper((*field)[i], path, n_layers, &stage->helpers[i]));
  }
  return OkStatus();
}

Status ReadStage(const Json& object, size_t i, StagePlan* stage) {
  FieldReader reader(object, Str("stages[", i, "]"));
  if (reader.Find("lead") == nullptr) reader.Fail(reader.Name("lead"), "is missing");
  reader.Integer("lead", 0, kAnyU64, &stage->lead.value);
  ReadLayers(&reader, &stage->layers);
  reader.Integer("weights_bytes", 0, kAnyU64, &stage->weights_bytes);
  reader.Integer("relay_bytes", 0, kAnyU64, &stage->relay_bytes);
  reader.Integer("predictor_bytes", 0, kAnyU64, &stage->predictor_bytes);
  reader.Integer("saved_bytes", 0, kAnyU64, &stage->saved_bytes);
  reader.Integer("kv_bytes", 0, kAnyU64, &stage->kv_bytes);
  reader.Text("reason", kMaxReasonBytes, &stage->reason);
  reader.Link(&stage->to_next);
  TC_RETURN_IF_ERROR(ReadHelpers(&reader, stage));
  return reader.Finish();
}

Status ReadStages(FieldReader* reader, Plan* plan) {
  const Json* stages = reader->Find("stages");
  if (stages == nullptr || !stages->is_array() || stages->empty() || stages->size() > kMaxStages) {
    reader->Fail("stages", Str("is not a list of 1..", kMaxStages, " stages"));
    return OkStatus();
  }
  plan->stages.assign(stages->size(), {});
  for (size_t i = 0; i < stages->size(); ++i) {
    TC_RETURN_IF_ERROR(ReadStage((*stages)[i], i, &plan->stages[i]));
  }
  plan->stages.front().layers.has_embed = true;
  plan->stages.back().layers.has_head = true;
  return OkStatus();
}

Status ReadKv(FieldReader* plan_reader, KvBudget* kv) {
  const Json* field = plan_reader->Find("kv");
  if (field == nullptr) return OkStatus();
  FieldReader reader(*field, "kv");
  reader.Integer("page_tokens", 1, kMaxPageTokens, &kv->page_tokens);
  reader.Integer("n_pages", 0, kMaxKvTokens, &kv->n_pages);
  reader.FloatType("dtype", &kv->dtype);
  return reader.Finish();
}

Result<Plan> ReadPlan(const Json& json, const Plan& defaults, SaidOfLinks* said) {
  Plan plan = defaults;
  FieldReader reader(json, "");
  int version = kPlanFormatVersion;
  reader.Integer("version", kPlanFormatVersion, kPlanFormatVersion, &version);
  reader.Integer("epoch", 0, kAnyU64, &plan.epoch.value);
  reader.Text("model_fingerprint", kMaxFingerprintBytes, &plan.model_fingerprint);
  reader.Integer("n_layer", 0, model::kMaxLayers, &plan.n_layer);
  reader.Integer("n_ctx", 0, kMaxContextTokens, &plan.n_ctx);
  reader.LinkName("link", &plan.link);
  reader.FloatType("wire", &plan.wire);
  if (said != nullptr) *said = {json.contains("link"), json.contains("wire")};
  reader.Integer("micro_batches", 1, kMaxMicroBatches, &plan.micro_batches);
  TC_RETURN_IF_ERROR(ReadKv(&reader, &plan.kv));
  TC_RETURN_IF_ERROR(ReadStages(&reader, &plan));
  TC_RETURN_IF_ERROR(reader.Finish());
  return plan;
}

Json NeuronsToJson(const std::vector<NeuronRange>& neurons) {
  Json json = Json::array();
  for (const NeuronRange& range : neurons) json.push_back({range.begin, range.end});
  return json;
}

void AddLink(const LinkChoice& choice, PlanLink link, Json* json) {
  if (choice.link && link == PlanLink::kWrite) (*json)["link"] = LinkKindName(*choice.link);
  if (choice.wire) (*json)["wire"] = DTypeName(*choice.wire);
}

// Only where a worker holds rows in 8 bits.
void AddSaved(uint64_t saved_bytes, Json* json) {
  if (saved_bytes > 0) (*json)["saved_bytes"] = saved_bytes;
}

void AddHeads(const HeadRange& heads, Json* json) {
  if (!heads.empty()) (*json)["heads"] = {heads.begin, heads.end};
}

Json HelperToJson(const HelperPlan& helper, PlanLink link) {
  Json json{{"worker", helper.worker.value},
            {"neurons", NeuronsToJson(helper.neurons)},
            {"weights_bytes", helper.bytes.weights},
            {"relay_bytes", helper.bytes.relay},
            {"predictor_bytes", helper.bytes.predictors},
            {"reason", helper.reason}};
  AddSaved(helper.bytes.saved, &json);
  AddHeads(helper.heads, &json);
  if (!helper.heads.empty()) json["kv_bytes"] = helper.kv_bytes;
  AddLink(helper.to_lead, link, &json);
  return json;
}

Json StageToJson(const StagePlan& stage, PlanLink link) {
  Json json{{"lead", stage.lead.value},
            {"layers", {stage.layers.begin, stage.layers.end}},
            {"weights_bytes", stage.weights_bytes},
            {"relay_bytes", stage.relay_bytes},
            {"predictor_bytes", stage.predictor_bytes},
            {"kv_bytes", stage.kv_bytes},
            {"reason", stage.reason}};
  AddSaved(stage.saved_bytes, &json);
  AddLink(stage.to_next, link, &json);
  if (!stage.is_split()) return json;
  // Left out by hand, they are what no helper has, until the plan is completed.
  if (!stage.neurons.empty()) json["neurons"] = NeuronsToJson(stage.neurons);
  AddHeads(stage.heads, &json);
  json["helpers"] = Json::array();
  for (const HelperPlan& helper : stage.helpers) {
    json["helpers"].push_back(HelperToJson(helper, link));
  }
  return json;
}

}  // namespace

std::string PlanToJson(const Plan& plan, PlanLink link) {
  Json stages = Json::array();
  for (const StagePlan& stage : plan.stages) stages.push_back(StageToJson(stage, link));
  Json json{{"version", kPlanFormatVersion},
            {"epoch", plan.epoch.value},
            {"model_fingerprint", plan.model_fingerprint},
            {"n_layer", plan.n_layer},
            {"n_ctx", plan.n_ctx},
            {"link", LinkKindName(plan.link)},
            {"wire", DTypeName(plan.wire)},
            {"micro_batches", plan.micro_batches},
            {"kv",
             {{"page_tokens", plan.kv.page_tokens},
              {"n_pages", plan.kv.n_pages},
              {"dtype", DTypeName(plan.kv.dtype)}}},
            {"stages", std::move(stages)}};
  if (link == PlanLink::kLeaveOut) json.erase("link");
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Plan> PlanFromJson(std::string_view text, const Plan& defaults, SaidOfLinks* said) {
  TC_ASSIGN_OR_RETURN(const Json json, ParsePlanText(text, kMaxPlanJsonBytes));
  return ReadPlan(json, defaults, said);
}

}  // namespace thermocline::placement
