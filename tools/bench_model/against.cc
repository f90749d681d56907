#include "tools/bench_model/against.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>
#include <vector>

#include "base/str.h"
#include "tools/bench_model/shell_command.h"
#include "tools/subcommands.h"

namespace thermocline::tools {
namespace {

// A longer line is no speed; std::regex recurses over what it matches.
constexpr size_t kMaxLineBytes = 4096;

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.size() <= kMaxLineBytes) lines.push_back(std::move(line));
  }
  return lines;
}

std::optional<double> ToSpeed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '"')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value <= 0) return std::nullopt;
  return value;
}

// The value of "avg_ts": 12.3 in a line of JSON.
std::optional<double> JsonSpeed(const std::string& line) {
  constexpr std::string_view kKey = "\"avg_ts\":";
  const size_t at = line.rfind(kKey);
  return at == std::string::npos ? std::nullopt
                                 : ToSpeed(std::string_view(line).substr(at + kKey.size()));
}

// Cells of a CSV line; commas within quotes belong to their cell.
std::vector<std::string> CsvCells(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else if (c != '\r') {
      cells.back() += c;
    }
  }
  return cells;
}

std::optional<size_t> ColumnOf(const std::vector<std::string>& cells, std::string_view name) {
  for (size_t i = 0; i < cells.size(); ++i) {
    if (cells[i] == name) return i;
  }
  return std::nullopt;
}

// The last cell under a column avg_ts.
std::optional<double> CsvSpeed(const std::vector<std::string>& lines) {
  std::optional<size_t> column;
  std::optional<double> speed;
  for (const std::string& line : lines) {
    const std::vector<std::string> cells = CsvCells(line);
    if (const auto found = ColumnOf(cells, "avg_ts")) {
      column = found;
    } else if (column && *column < cells.size()) {
      if (const auto value = ToSpeed(cells[*column])) speed = value;
    }
  }
  return speed;
}

// "... | 28.50 ± 0.10 |" in a table whose last column is t/s.
std::optional<double> TableSpeed(const std::vector<std::string>& lines) {
  static const std::regex kHead(R"(\|\s*t/s\s*\|\s*$)");
  static const std::regex kRow(R"(\|\s*([0-9.]+)(\s*(±|\+-|\+/-)\s*[0-9.]+)?\s*\|\s*$)");
  bool in_table = false;
  std::optional<double> speed;
  for (const std::string& line : lines) {
    std::smatch match;
    if (std::regex_search(line, kHead)) {
      in_table = true;
    } else if (in_table && std::regex_search(line, match, kRow)) {
      if (const auto value = ToSpeed(match[1].str())) speed = value;
    }
  }
  return speed;
}

std::optional<double> WordedSpeed(const std::vector<std::string>& lines) {
  static const std::regex kSpeed(
      R"(([0-9]+(\.[0-9]+)?)\s*((±|\+-|\+/-)\s*[0-9.]+\s*)?(tokens per second|tokens/s|tok/s|t/s))");
  std::optional<double> speed;
  for (const std::string& line : lines) {
    for (std::sregex_iterator it(line.begin(), line.end(), kSpeed), end; it != end; ++it) {
      if (const auto value = ToSpeed((*it)[1].str())) speed = value;
    }
  }
  return speed;
}

void ReplaceAll(std::string_view from, std::string_view to, std::string* text) {
  for (size_t at = text->find(from); at != std::string::npos; at = text->find(from, at)) {
    text->replace(at, from.size(), to);
    at += to.size();
  }
}

// A word in braces that is nearly a placeholder; other braces are the shell's or awk's.
std::string UnknownPlaceholder(const std::string& command) {
  static const std::regex kBraces(R"(\{([A-Za-z_-]+)\})");
  constexpr int kMaxEdits = 2;
  for (std::sregex_iterator it(command.begin(), command.end(), kBraces), end; it != end; ++it) {
    const std::string word = (*it)[1].str();
    for (const std::string_view known : {"model", "threads", "n_prompt", "n_gen", "batch"}) {
      const int distance = EditDistance(word, known);
      if (distance == 0) break;
      if (distance <= kMaxEdits) return it->str();
    }
  }
  return "";
}

}  // namespace

Result<std::string> FillPlaceholders(const std::string& command, const AgainstCase& test) {
  if (const std::string word = UnknownPlaceholder(command); !word.empty()) {
    return InvalidArgument(Str("--against has an unknown placeholder ", Printable(word),
                               "; there are {model} {threads} {n_prompt} {n_gen} {batch}"));
  }
  std::string filled = command;
  ReplaceAll("{threads}", std::to_string(test.n_threads), &filled);
  ReplaceAll("{n_prompt}", std::to_string(test.n_prompt), &filled);
  ReplaceAll("{n_gen}", std::to_string(test.n_gen), &filled);
  ReplaceAll("{batch}", std::to_string(test.batch), &filled);
  ReplaceAll("{model}", ShellQuoted(test.model_path), &filled);
  return filled;
}

Result<double> FindTokensPerSecond(const std::string& output) {
  const std::vector<std::string> lines = LinesOf(output);
  std::optional<double> speed;
  for (const std::string& line : lines) {
    if (const auto value = JsonSpeed(line)) speed = value;
  }
  if (!speed) speed = CsvSpeed(lines);
  if (!speed) speed = TableSpeed(lines);
  if (!speed) speed = WordedSpeed(lines);
  if (speed) return *speed;
  return NotFound("no tokens per second in the output of --against; give --against-pattern REGEX");
}

struct AgainstPattern::Regex {
  std::regex regex;
};

Result<AgainstPattern> AgainstPattern::Compile(const std::string& pattern) {
  AgainstPattern compiled;
  try {
    compiled.regex_ = std::make_shared<const Regex>(Regex{std::regex(pattern)});
  } catch (const std::regex_error& error) {
    return InvalidArgument(Str("--against-pattern is no regular expression: \"", Printable(pattern),
                               "\": ", error.what()));
  }
  return compiled;
}

Result<double> AgainstPattern::Find(const std::string& output) const {
  std::optional<std::string> found;
  for (const std::string& line : LinesOf(output)) {
    try {
      const std::regex& regex = regex_->regex;
      for (std::sregex_iterator it(line.begin(), line.end(), regex), end; it != end; ++it) {
        found = it->size() > 1 ? (*it)[1].str() : it->str();
      }
    } catch (const std::regex_error& error) {  // too complex for this line
      return InvalidArgument(Str("--against-pattern cannot be matched: ", error.what()));
    }
  }
  if (!found) return NotFound("--against-pattern matches no line of the output");
  if (const auto speed = ToSpeed(*found)) return *speed;
  return NotFound(Str("--against-pattern found no number above 0: \"", Printable(*found), "\""));
}

Result<Against> Against::Create(const Options& options) {
  Against against(options);
  TC_RETURN_IF_ERROR(FillPlaceholders(options.command, {}).status());
  if (!options.pattern.empty()) {
    TC_ASSIGN_OR_RETURN(AgainstPattern pattern, AgainstPattern::Compile(options.pattern));
    against.pattern_ = std::make_unique<AgainstPattern>(std::move(pattern));
  }
  return against;
}

Result<double> Against::Run(const AgainstCase& test) const {
  TC_ASSIGN_OR_RETURN(const std::string command, FillPlaceholders(options_.command, test));
  TC_ASSIGN_OR_RETURN(const CommandOutput output, RunShellCommand(command, options_.timeout));
  const auto described = [&](const Status& status) {
    return Status(status.code(), Str(status.message(), "\n  $ ", Printable(command, 500), "\n",
                                     TailOf(output.text)));
  };
  if (output.exit_status != 0) {
    return described(
        Unavailable(Str("the command of --against failed:", Kv("exit", output.exit_status))));
  }
  auto speed = pattern_ != nullptr ? pattern_->Find(output.text) : FindTokensPerSecond(output.text);
  return speed.ok() ? speed : Result<double>(described(speed.status()));
}

}  // namespace thermocline::tools
