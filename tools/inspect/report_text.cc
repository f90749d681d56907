// The report for people: Markdown that reads well in a terminal.
#include <algorithm>

#include "base/str.h"
#include "base/units.h"
#include "placement/reason_text.h"
#include "tools/inspect/report.h"
#include "tools/local/model_summary.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

std::string Percent(double part, double whole) {
  return FixedPoint(whole > 0 ? 100 * part / whole : 0, 1);
}

std::string Field(std::string_view name, const std::string& value) {
  constexpr size_t kWidth = 21;  // "decode, thresholded" is the longest
  const std::string space(std::max(kWidth, name.size() + 1) - name.size(), ' ');
  return Str("  ", name, space, value, "\n");
}

std::string ConfigText(const model::ModelConfig& config) {
  const char* const norm = config.norm == model::NormKind::kRms ? "RMSNorm" : "LayerNorm";
  return Field("layers", Str(config.n_layer)) + Field("n_embd", Str(config.n_embd, ", ", norm)) +
         Field("attention", Str(config.n_head, " heads, ", config.n_head_kv, " KV heads of ",
                                config.head_dim, ", rope on ", config.rope.n_rot)) +
         Field("ffn", Str("n_ff ", config.n_ff, ", ", model::ActivationName(config.activation),
                          config.ffn_gated ? ", gated" : ", no gate")) +
         Field("vocabulary", Str(config.n_vocab,
                                 config.tied_embeddings ? ", the head shares the embedding" : "")) +
         Field("context", Str(config.n_ctx_train, " tokens in training"));
}

std::string SummaryText(const InspectReport& report) {
  uint64_t n_params = 0, bytes = 0;
  for (const TensorGroup& group : report.groups) {
    n_params += group.n_params;
    bytes += group.bytes;
  }
  std::string text = Str(Printable(report.path), "\n") + Field("model", Printable(report.name)) +
                     Field("architecture", Printable(report.architecture)) +
                     Field("format", Str(report.format, ", ", FormatBytes(report.file_bytes)));
  if (report.n_parts > 1) {
    text += Field("part", Str(report.i_part + 1, " of ", report.n_parts,
                              "; the numbers below are those of this file"));
  }
  text += Field("parameters", Str(FormatParams(n_params), " in ", FormatBytes(bytes)));
  if (report.runnable) text += ConfigText(report.runnable->config);
  text += Field("tokenizer", Printable(report.tokenizer));
  text += Field("chat template", report.has_chat_template ? "yes" : "no");
  text += Field("fingerprint", report.fingerprint);
  if (report.runnable && report.runnable->has_predictors) text += Field("predictors", "yes");
  if (report.runnable && !report.runnable->profile_note.empty()) {
    text +=
        Str("\nThe profile beside it is not used, and programs that run the model refuse it: ",
            report.runnable->profile_note, "\nRemove it, or run `thermocline profile` again.\n");
  }
  if (!report.why_not_runnable.empty()) {
    text += Str("\nThis version cannot run it: ", report.why_not_runnable, "\n");
  }
  return text;
}

std::string GroupsText(const InspectReport& report) {
  double total = 0;
  for (const TensorGroup& group : report.groups) total += static_cast<double>(group.bytes);
  Table table({{"tensors", Align::kLeft},
               {"count"},
               {"type", Align::kLeft},
               {"parameters"},
               {"bytes"},
               {"share %"}});
  for (const TensorGroup& group : report.groups) {
    table.AddRow({Printable(group.role), std::to_string(group.n_tensors), group.types.Text(),
                  FormatParams(group.n_params), FormatBytes(group.bytes),
                  Percent(static_cast<double>(group.bytes), total)});
  }
  return Str("\nTensors\n\n", table.Markdown());
}

// Mean of the layers' densities, in percent; "-" when unknown.
std::string ActiveText(const InspectReport& report, const LayerGroup& layers) {
  if (!report.runnable) return "-";
  const std::vector<double>& densities = report.runnable->densities.layers;
  if (static_cast<size_t>(layers.end) > densities.size()) return "-";
  double sum = 0;
  for (int i = layers.begin; i < layers.end; ++i) sum += densities[static_cast<size_t>(i)];
  return FixedPoint(100 * sum / (layers.end - layers.begin), 1);
}

std::string LayersText(const InspectReport& report) {
  Table table({{"layers", Align::kLeft},
               {"type", Align::kLeft},
               {"attention"},
               {"ffn"},
               {"predictor"},
               {"other"},
               {"each"},
               {"active %"}});
  for (const LayerGroup& layers : report.layers) {
    table.AddRow({placement::LayersText(layers.begin, layers.end), layers.types.Text(),
                  FormatBytes(layers.attention_bytes), FormatBytes(layers.ffn_bytes),
                  FormatBytes(layers.predictor_bytes), FormatBytes(layers.other_bytes),
                  FormatBytes(layers.bytes()), ActiveText(report, layers)});
  }
  return Str("\nLayers\n\n", table.Markdown());
}

std::string TensorsText(const InspectReport& report) {
  if (report.tensors.empty()) return "";
  Table table({{"tensor", Align::kLeft},
               {"type", Align::kLeft},
               {"shape", Align::kLeft},
               {"bytes"},
               {"offset"}});
  for (const model::TensorInfo& tensor : report.tensors) {
    std::string shape;
    for (const int64_t dim : tensor.shape) shape += Str(shape.empty() ? "" : " x ", dim);
    table.AddRow({Printable(tensor.name), std::string(DTypeName(tensor.dtype)), shape,
                  std::to_string(tensor.size_bytes), std::to_string(tensor.offset_bytes)});
  }
  return Str("\nAll tensors, outermost dimension first\n\n", table.Markdown());
}

std::string BytesText(const InspectReport& report) {
  const RunnableModel& model = *report.runnable;
  std::string text = "\nBytes that one token reads\n\n";
  for (const StepReport& step : model.steps) {
    if (step.cost.n_tokens != 1) continue;
    text += Field(step.title, FormatBytes(static_cast<uint64_t>(step.cost.bytes())));
  }
  if (!model.densities.source.empty()) {
    text +=
        Str("  active neurons: ", Printable(model.densities.source, 200), "; of several tokens: ",
            model.densities.has_unions() ? "by its union curves" : "as if they chose alone", "\n");
  } else {
    text += "  sparse modes: unknown without a profile beside the model; or assume --active 0.1\n";
  }
  return text;
}

std::string RatesText(const MachineRates& rates) {
  std::string text =
      Str("\nThis machine, ", rates.device, ": streams ", FixedPoint(rates.bytes_per_s / 1e9, 1),
          " GB/s, gathers 4 KiB rows at ", FixedPoint(rates.gather_bytes_per_s / 1e9, 1), " GB/s;");
  for (const auto& [dtype, flops] : rates.flops) {
    text += Str(" ", DTypeName(dtype), " ", FixedPoint(flops.decode_per_s / 1e9, 0), " | ",
                FixedPoint(flops.prefill_per_s / 1e9, 0));
  }
  return text + " GFLOP/s for 1 | 64 tokens from the caches\n";
}

std::string StepText(const StepReport& step, const InspectReport& report) {
  std::vector<TableColumn> columns = {{"operator", Align::kLeft},
                                      {"type", Align::kLeft},
                                      {"count"},
                                      {"MB"},
                                      {"MFLOP"},
                                      {"FLOP/byte"}};
  if (report.rates) {
    for (const char* title : {"bound", "ms", "share %"}) columns.push_back({title});
  }
  Table table(std::move(columns));
  const double total = report.rates ? PredictSeconds(step.cost, *report.rates) : 0;
  for (const OpCost& op : step.cost.ops) {
    if (op.bytes == 0 && op.flops == 0) continue;
    std::vector<std::string> row = {op.name,
                                    std::string(DTypeName(op.dtype)),
                                    std::to_string(op.count),
                                    FixedPoint(op.bytes / 1e6, 2),
                                    FixedPoint(op.flops / 1e6, 1),
                                    FixedPoint(op.intensity(), 1)};
    if (report.rates) {
      const Prediction predicted = PredictOp(op, step.cost.n_tokens, *report.rates);
      row.insert(row.end(), {BoundName(predicted.bound), FixedPoint(predicted.seconds * 1e3, 3),
                             Percent(predicted.seconds, total)});
    }
    table.AddRow(std::move(row));
  }
  std::string text = Str("\nRoofline: ", step.title, ", ", step.cost.n_tokens, " token",
                         step.cost.n_tokens == 1 ? "" : "s", " after ", report.n_context, "\n\n",
                         table.Markdown(), "sum: ", FixedPoint(step.cost.bytes() / 1e6, 1), " MB, ",
                         FixedPoint(step.cost.flops() / 1e6, 1), " MFLOP");
  if (report.rates) {
    text += Str(", ", FixedPoint(total * 1e3, 2), " ms: at most ",
                FixedPoint(static_cast<double>(step.cost.n_tokens) / total, 1), " tokens/s");
  }
  return text + "\n";
}

}  // namespace

std::string InspectText(const InspectReport& report) {
  std::string text =
      SummaryText(report) + GroupsText(report) + LayersText(report) + TensorsText(report);
  if (!report.runnable) return text;
  text += BytesText(report);
  if (report.rates) text += RatesText(*report.rates);
  for (const StepReport& step : report.runnable->steps) text += StepText(step, report);
  return text;
}

}  // namespace thermocline::tools
