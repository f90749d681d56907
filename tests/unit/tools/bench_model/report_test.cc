#include "tools/bench_model/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace thermocline::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// 2 repetitions of 4 sequences of 10 tokens, 100 bytes per token.
BenchReport OneCase() {
  BenchReport report;
  report.build = "0.1.0 (abc)";
  report.cpu = "A CPU, of one kind";
  report.instruction_set = "cpu avx2";
  report.repetitions = 2;
  report.models = {{"dir/m.gguf", "m", "arcee", 2'500'000, 5 << 20, DType::kF16}};
  report.setups = {{0, 2, "exact", DType::kF32}};
  report.cases = {{.n_gen = 10, .batch = 4}};
  CaseResult result;
  result.tokens_per_s = {40, 44};
  result.bytes_per_s = {4000, 4400};
  result.stream_bytes_per_s = {8000, 4400};
  result.gather_bytes_per_s = {1e9, 3e9};
  result.traffic.weight_bytes = 7000;
  result.traffic.kv_bytes = 1000;
  result.traffic.n_neurons = 1000;
  result.traffic.n_neurons_active = 125;
  result.n_tokens = 80;
  report.results = {result};
  return report;
}

TEST(BenchReport, CountsBytesAndSharesPerToken) {
  const CaseResult result = OneCase().results[0];
  EXPECT_DOUBLE_EQ(result.bytes_per_token(), 100);
  EXPECT_EQ(result.stream_shares(), (std::vector<double>{0.5, 1}));
  EXPECT_DOUBLE_EQ(result.density(), 0.125);
  EXPECT_DOUBLE_EQ(CaseResult{}.density(), 1);  // dense: nobody counts silent neurons
  EXPECT_DOUBLE_EQ(CaseResult{}.bytes_per_token(), 0);
}

TEST(BenchReport, Markdown) {
  const std::string text = FormatReport(OneCase(), ReportFormat::kMarkdown);
  EXPECT_THAT(text, HasSubstr("arcee 2.5 M F16"));
  EXPECT_THAT(text, HasSubstr("42.00 ± 2.83"));
  EXPECT_THAT(text, HasSubstr(" 10.50 "));  // of each sequence
  EXPECT_THAT(text, HasSubstr(" 75.0 "));   // median share of the stream
  EXPECT_THAT(text, HasSubstr(" 12.5 "));   // active
  EXPECT_THAT(text, HasSubstr("0.1.0 (abc)"));
  EXPECT_THAT(text, Not(HasSubstr("ratio")));
}

TEST(BenchReport, NotesStandApartFromTheTable) {
  BenchReport report = OneCase();
  report.notes = {"not available: exact of a|b.gguf: why", "another"};
  const std::string text = FormatReport(report, ReportFormat::kMarkdown);
  EXPECT_THAT(text, HasSubstr("|\n\n- not available: exact of a|b.gguf: why\n- another\n\n2 rep"));
  // Every line of the table has the same columns.
  std::istringstream lines(text);
  std::vector<std::ptrdiff_t> columns;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('|')) columns.push_back(std::count(line.begin(), line.end(), '|'));
  }
  EXPECT_THAT(columns, ElementsAre(16, 16, 16));
  EXPECT_THAT(FormatReport(report, ReportFormat::kJson), HasSubstr("\"notes\": ["));
}

TEST(BenchReport, ComparesPairsAndMedians) {
  BenchReport report = OneCase();
  report.against = "other -m {model}";
  report.results[0].against_tokens_per_s = {20, 11};
  EXPECT_EQ(report.results[0].paired_ratios(), (std::vector<double>{2, 4}));
  const std::string text = FormatReport(report, ReportFormat::kMarkdown);
  EXPECT_THAT(text, HasSubstr("15.50"));
  EXPECT_THAT(text, HasSubstr("2.71x"));  // 42 / 15.5
  const std::string json = FormatReport(report, ReportFormat::kJson);
  EXPECT_THAT(json, HasSubstr("\"ratio_of_medians\": 2.709"));
  EXPECT_THAT(json, HasSubstr("\"paired_ratios\""));
}

// Only a GPU can replay steps.
TEST(BenchReport, SaysOfAGpuHowManyStepsWereReplayed) {
  BenchReport report = OneCase();
  report.results[0].n_steps = 20;
  report.results[0].n_replays = 17;
  EXPECT_THAT(FormatReport(report, ReportFormat::kMarkdown), Not(HasSubstr("replayed")));
  report.is_apart = true;
  const std::string text = FormatReport(report, ReportFormat::kMarkdown);
  EXPECT_THAT(text, HasSubstr("| replayed % |"));
  EXPECT_THAT(text, HasSubstr(" 85 |\n"));
  const std::string json = FormatReport(report, ReportFormat::kJson);
  EXPECT_THAT(json, HasSubstr("\"steps\": 20"));
  EXPECT_THAT(json, HasSubstr("\"steps_replayed\": 17"));
  EXPECT_THAT(FormatReport(report, ReportFormat::kCsv), HasSubstr(",0.8500,"));
  EXPECT_DOUBLE_EQ(CaseResult{}.replayed_share(), 0);
}

size_t CountCells(const std::string& line) {
  bool quoted = false;
  size_t n = 1;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    if (c == ',' && !quoted) ++n;
  }
  return n;
}

TEST(BenchReport, CsvLinesHaveAllColumnsWithAndWithoutAgainst) {
  BenchReport report = OneCase();
  for (int round = 0; round < 2; ++round) {
    const std::string csv = FormatReport(report, ReportFormat::kCsv);
    const size_t end = csv.find('\n');
    EXPECT_EQ(CountCells(csv.substr(0, end)), CountCells(csv.substr(end + 1))) << csv;
    EXPECT_THAT(csv, HasSubstr("\"A CPU, of one kind\""));
    report.results[0].against_tokens_per_s = {20, 11};
  }
}

}  // namespace
}  // namespace thermocline::tools
