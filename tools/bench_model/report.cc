#include "tools/bench_model/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/str.h"
#include "base/units.h"
#include "tools/bench_model/op_report.h"
#include "tools/bench_model/statistics.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

using Json = nlohmann::ordered_json;

// The parts of one line of the report.
struct Line {
  const ModelSummary& model;
  const BenchSetup& setup;
  const BenchCase& test;
  const CaseResult& result;
};

Line LineOf(const BenchReport& report, size_t i) {
  const BenchCase& test = report.cases[i];
  const BenchSetup& setup = report.setups[test.i_setup];
  return {report.models[setup.i_model], setup, test, report.results[i]};
}

std::string LowerName(DType dtype) { return dtype == DType::kF16 ? "f16" : "f32"; }

Json SpreadJson(const std::vector<double>& values) {
  const Spread spread = SpreadOf(values);
  return {{"mean", spread.mean}, {"stddev", spread.deviation}, {"median", spread.median},
          {"min", spread.min},   {"max", spread.max},          {"samples", values}};
}

Json AgainstJson(const CaseResult& result) {
  const double ours = MedianOf(result.tokens_per_s);
  const double theirs = MedianOf(result.against_tokens_per_s);
  return {{"tokens_per_s", SpreadJson(result.against_tokens_per_s)},
          {"ratio_of_medians", theirs > 0 ? ours / theirs : 0},
          {"paired_ratios", SpreadJson(result.paired_ratios())}};
}

Json OpsJson(const CaseResult& result) {
  Json ops = Json::array();
  for (const OpLine& op : OpLinesOf(result)) {
    ops.push_back({{"op", op.name},
                   {"calls_per_step", op.calls},
                   {"seconds_per_step", op.seconds},
                   {"share", op.share},
                   {"bytes_per_step", op.bytes},
                   {"bytes_per_s", op.bytes_per_s()}});
  }
  return ops;
}

Json CaseJson(const Line& line) {
  const auto& [model, setup, test, result] = line;
  Json out = {{"model", model.path},
              {"test", TestName(test)},
              {"n_prompt", test.n_prompt},
              {"n_gen", test.n_gen},
              {"batch", test.batch},
              {"depth", test.depth},
              {"threads", setup.n_threads},
              {"ffn", setup.ffn},
              {"ffn_ran", result.ffn_text},
              {"cache_type", LowerName(setup.kv_dtype)},
              {"tokens_per_s", SpreadJson(result.tokens_per_s)},
              {"tokens_per_s_per_sequence",
               MedianOf(result.tokens_per_s) / static_cast<double>(test.batch)},
              {"bytes_per_token", result.bytes_per_token()},
              {"weight_bytes", result.traffic.weight_bytes},
              {"neuron_bytes", result.traffic.neuron_bytes},
              {"kv_bytes", result.traffic.kv_bytes},
              {"tokens", result.n_tokens},
              {"bytes_per_s", SpreadJson(result.bytes_per_s)},
              {"stream_bytes_per_s", SpreadJson(result.stream_bytes_per_s)},
              {"gather_bytes_per_s", SpreadJson(result.gather_bytes_per_s)},
              {"stream_share", SpreadJson(result.stream_shares())},
              {"density", result.density()},
              {"named_density", result.traffic.named_density()},
              {"steps", result.n_steps},
              {"steps_replayed", result.n_replays},
              {"peak_rss_bytes", result.peak_rss_bytes}};
  if (!result.against_tokens_per_s.empty()) out["against"] = AgainstJson(result);
  if (!result.ops.empty()) {
    out["predictor_share"] = PredictorShare(result);
    out["ops"] = OpsJson(result);
  }
  return out;
}

Json ModelJson(const ModelSummary& model) {
  return {{"path", model.path},
          {"name", model.name},
          {"arch", model.arch},
          {"params", model.n_params},
          {"weight_bytes", model.weight_bytes},
          {"type", DTypeName(model.main_dtype)}};
}

std::string JsonReport(const BenchReport& report) {
  Json out = {{"build", report.build},
              {"date", report.date},
              {"cpu", report.cpu},
              {"instruction_set", report.instruction_set},
              {"cores", report.n_cores},
              {"repetitions", report.repetitions},
              {"probe_bytes", report.probe_bytes}};
  if (!report.against.empty()) out["against"] = report.against;
  out["models"] = Json::array();
  for (const ModelSummary& model : report.models) out["models"].push_back(ModelJson(model));
  if (!report.notes.empty()) out["notes"] = report.notes;
  out["cases"] = Json::array();
  for (size_t i = 0; i < report.cases.size(); ++i) {
    out["cases"].push_back(CaseJson(LineOf(report, i)));
  }
  return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A cell of CSV; quoted where it must be.
std::string CsvCell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

constexpr std::string_view kCsvHead =
    "build,date,cpu,instruction_set,model,arch,type,weight_bytes,test,n_prompt,n_gen,batch,depth,"
    "threads,ffn,cache_type,repetitions,tokens_per_s_mean,tokens_per_s_stddev,tokens_per_s_median,"
    "tokens_per_s_min,tokens_per_s_max,tokens_per_s_per_sequence,bytes_per_token,gb_per_s,"
    "stream_gb_per_s,stream_share,gather_gb_per_s,density,peak_rss_bytes,replayed,"
    "against_tokens_per_s,ratio\n";

std::string CsvLine(const BenchReport& report, const Line& line) {
  const auto& [model, setup, test, result] = line;
  const Spread speed = SpreadOf(result.tokens_per_s);
  const double theirs = MedianOf(result.against_tokens_per_s);
  std::string out =
      Str(CsvCell(report.build), ',', report.date, ',', CsvCell(report.cpu), ',',
          report.instruction_set, ',', CsvCell(model.path), ',', model.arch, ',',
          DTypeName(model.main_dtype), ',', model.weight_bytes, ',', TestName(test), ',',
          test.n_prompt, ',', test.n_gen, ',', test.batch, ',', test.depth, ',', setup.n_threads,
          ',', setup.ffn, ',', LowerName(setup.kv_dtype), ',', report.repetitions);
  const auto add = [&out](double value, int decimals) {
    out += Str(',', FixedPoint(value, decimals));
  };
  for (const double value : {speed.mean, speed.deviation, speed.median, speed.min, speed.max,
                             speed.median / static_cast<double>(test.batch)}) {
    add(value, 3);
  }
  add(result.bytes_per_token(), 0);
  add(MedianOf(result.bytes_per_s) / 1e9, 3);
  add(MedianOf(result.stream_bytes_per_s) / 1e9, 3);
  add(MedianOf(result.stream_shares()), 4);
  add(MedianOf(result.gather_bytes_per_s) / 1e9, 3);
  add(result.density(), 4);
  out += Str(',', result.peak_rss_bytes);
  add(result.replayed_share(), 4);
  if (theirs == 0) return out + ",,\n";
  add(theirs, 3);
  add(speed.median / theirs, 3);
  return out + "\n";
}

std::string CsvReport(const BenchReport& report) {
  std::string out(kCsvHead);
  for (size_t i = 0; i < report.cases.size(); ++i) out += CsvLine(report, LineOf(report, i));
  return out;
}

std::vector<std::string> MarkdownCells(const BenchReport& report, const Line& line) {
  const auto& [model, setup, test, result] = line;
  const Spread speed = SpreadOf(result.tokens_per_s);
  std::vector<std::string> cells = {
      Str(model.arch, " ", FormatParams(model.n_params), " ", DTypeName(model.main_dtype)),
      FormatBytes(model.weight_bytes),
      TestName(test),
      std::to_string(test.batch),
      std::to_string(setup.n_threads),
      setup.ffn,
      LowerName(setup.kv_dtype),
      Str(FixedPoint(speed.mean, 2), " ± ", FixedPoint(speed.deviation, 2)),
      FixedPoint(speed.median / static_cast<double>(test.batch), 2),
      FixedPoint(result.bytes_per_token() / 1e6, 1),
      FixedPoint(MedianOf(result.bytes_per_s) / 1e9, 2),
      FixedPoint(MedianOf(result.stream_bytes_per_s) / 1e9, 2),
      FixedPoint(100 * MedianOf(result.stream_shares()), 1),
      FixedPoint(100 * result.density(), 1),
      FormatBytes(result.peak_rss_bytes)};
  if (report.is_apart) cells.push_back(FixedPoint(100 * result.replayed_share(), 0));
  if (!report.against.empty()) {
    const double theirs = MedianOf(result.against_tokens_per_s);
    cells.push_back(FixedPoint(theirs, 2));
    cells.push_back(Str(FixedPoint(theirs > 0 ? speed.median / theirs : 0, 2), "x"));
  }
  return cells;
}

std::string MarkdownHead(const BenchReport& report) {
  std::string head = Str("thermocline ", report.build, " | ", report.cpu, ", ", report.n_cores,
                         " cores, ", report.instruction_set, " | ", report.date, "\n");
  for (const ModelSummary& model : report.models) {
    head +=
        Str("model ", Printable(model.path), ": ", Printable(model.name), ", ",
            FormatParams(model.n_params), " parameters, ", FormatBytes(model.weight_bytes), "\n");
  }
  if (!report.against.empty()) head += Str("against: ", report.against, "\n");
  return head + "\n";
}

// One for each case whose ops were watched.
std::string OpTables(const BenchReport& report) {
  std::string text;
  for (size_t i = 0; i < report.cases.size(); ++i) {
    const auto& [model, setup, test, result] = LineOf(report, i);
    if (result.ops.empty()) continue;
    text += MarkdownOps(
        Str(Printable(model.path), ", ", TestName(test), ", batch ", test.batch, ", threads ",
            setup.n_threads, ", ffn ", setup.ffn, ", kv ", LowerName(setup.kv_dtype),
            ": a step of ",
            FixedPoint(1e3 * result.seconds / static_cast<double>(result.n_steps), 2), " ms"),
        result);
  }
  return text;
}

// What the column "stream" is; `gather` of the rows of it that are spread.
std::string StreamText(const BenchReport& report, double gather) {
  if (report.is_apart) {
    return " | stream: copying within the device's memory, GB/s read and written";
  }
  return Str(" | stream: reading ", FormatBytes(report.probe_bytes),
             " with the same threads, GB/s | gathering 10 % of its 4 KiB rows: up to ",
             FixedPoint(gather / 1e9, 2), " GB/s");
}

std::string MarkdownReport(const BenchReport& report) {
  Table table({{"model", Align::kLeft},
               {"size", Align::kRight},
               {"test", Align::kRight},
               {"batch", Align::kRight},
               {"threads", Align::kRight},
               {"ffn", Align::kLeft},
               {"kv", Align::kLeft},
               {"t/s", Align::kRight},
               {"t/s each", Align::kRight},
               {"MB/token", Align::kRight},
               {"GB/s", Align::kRight},
               {"stream", Align::kRight},
               {"% of it", Align::kRight},
               {"active %", Align::kRight},
               {"peak memory", Align::kRight}});
  if (report.is_apart) table.AddColumn({"replayed %", Align::kRight});
  if (!report.against.empty()) {
    table.AddColumn({"against t/s", Align::kRight});
    table.AddColumn({"ratio", Align::kRight});
  }
  double gather = 0;
  for (size_t i = 0; i < report.cases.size(); ++i) {
    table.AddRow(MarkdownCells(report, LineOf(report, i)));
    gather = std::max(gather, MedianOf(report.results[i].gather_bytes_per_s));
  }
  std::string notes;
  for (const std::string& note : report.notes) notes += Str("- ", note, "\n");
  return Str(MarkdownHead(report), table.Markdown(), "\n", notes, notes.empty() ? "" : "\n",
             report.repetitions,
             " repetitions, the cases in turns; t/s: mean ± standard deviation, the rest medians",
             StreamText(report, gather), "\n", OpTables(report));
}

}  // namespace

double CaseResult::bytes_per_token() const {
  const auto bytes = static_cast<double>(traffic.weight_bytes + traffic.kv_bytes);
  return n_tokens == 0 ? 0 : bytes / static_cast<double>(n_tokens);
}

double CaseResult::replayed_share() const {
  return n_steps == 0 ? 0 : static_cast<double>(n_replays) / static_cast<double>(n_steps);
}

std::vector<double> CaseResult::stream_shares() const {
  std::vector<double> shares;
  for (size_t i = 0; i < bytes_per_s.size(); ++i) {
    shares.push_back(stream_bytes_per_s[i] > 0 ? bytes_per_s[i] / stream_bytes_per_s[i] : 0);
  }
  return shares;
}

std::vector<double> CaseResult::paired_ratios() const {
  std::vector<double> ratios;
  for (size_t i = 0; i < against_tokens_per_s.size(); ++i) {
    ratios.push_back(tokens_per_s[i] / against_tokens_per_s[i]);
  }
  return ratios;
}

std::string FormatReport(const BenchReport& report, ReportFormat format) {
  switch (format) {
    case ReportFormat::kMarkdown:
      return MarkdownReport(report);
    case ReportFormat::kJson:
      return JsonReport(report);
    case ReportFormat::kCsv:
      return CsvReport(report);
  }
  return "";
}

}  // namespace thermocline::tools
