// Another engine's speed beside ours: runs a command of the user's and finds tokens per second in
// what it prints.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "tools/bench_model/cases.h"

namespace thermocline::tools {

// What stands for the placeholders {model} {threads} {n_prompt} {n_gen} {batch}.
struct AgainstCase {
  std::string model_path;
  int n_threads = 1;
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t batch = 1;
};

// The command with every placeholder replaced, the path as one word of a shell. kInvalidArgument
// names a word in braces that is nearly a placeholder: {n-gen}. Other braces are the shell's.
Result<std::string> FillPlaceholders(const std::string& command, const AgainstCase& test);

// Tokens per second in the output of
//   llama-bench: avg_ts of its JSON or CSV, else the last number of the last row of its table;
//   others: the last number before "tokens per second", "tokens/s", "tok/s" or "t/s".
// kNotFound when there is none of them.
Result<double> FindTokensPerSecond(const std::string& output);

// The same by a regular expression of the user's (ECMAScript). The last match counts: its first
// group, or all of it.
class AgainstPattern {
 public:
  // kInvalidArgument when it is no regular expression.
  static Result<AgainstPattern> Compile(const std::string& pattern);
  // kNotFound when no line matches or the match is no number.
  Result<double> Find(const std::string& output) const;

 private:
  struct Regex;
  AgainstPattern() = default;
  std::shared_ptr<const Regex> regex_;  // shared, so that the header needs no <regex>; immutable
};

// Owns the settings of --against. One thread.
class Against {
 public:
  struct Options {
    std::string command;
    std::string pattern;  // "" = FindTokensPerSecond
    Duration timeout{0};
  };
  // kInvalidArgument for a bad pattern or placeholder.
  static Result<Against> Create(const Options& options);

  // Runs the command once. Errors show the tail of its output: kUnavailable when it fails,
  // kNotFound when it names no speed, kDeadlineExceeded when it does not end.
  Result<double> Run(const AgainstCase& test) const;

 private:
  explicit Against(Options options) : options_(std::move(options)) {}

  Options options_;
  std::unique_ptr<AgainstPattern> pattern_;
};

}  // namespace thermocline::tools
