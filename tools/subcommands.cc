#include "tools/subcommands.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "base/str.h"

namespace thermocline::tools {
namespace {

struct Subcommand {
  std::string_view name;
  std::string_view program;
  std::string_view summary;
};

constexpr std::array<Subcommand, 10> kSubcommands = {{
    {"serve", "thermocline-coordinator", "serve a model over HTTP from all workers of the cluster"},
    {"worker", "thermocline-worker", "join a running cluster from this machine"},
    {"generate", "thermocline-generate", "complete one prompt in this process, without a cluster"},
    {"bench", "thermocline-bench", "measure a model's speed and its share of the memory's speed"},
    {"plan", "thermocline-plan", "decide which worker of a cluster holds what of a model"},
    {"machine", "thermocline-machine", "measure this machine, and save it as a cluster to plan for"},
    {"inspect", "thermocline-inspect", "show a model file and what running it here would cost"},
    {"convert", "thermocline-convert", "write a model with other weight types or another layout"},
    {"synth", "thermocline-synth", "write a benchmark model with planted sparsity"},
    {"profile", "thermocline-profile", "measure how a model uses its neurons; make predictors"},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kLongSpellings = {{
    {"-np", "--parallel"},
    {"-ctk", "--cache-type-k"},
    {"-ctv", "--cache-type-v"},
}};

// Further away than this, a word is not a misspelling.
constexpr int kMaxSuggestionDistance = 3;

}  // namespace

Result<std::string> FindSubcommand(std::string_view command) {
  const Subcommand* nearest = nullptr;
  int distance = kMaxSuggestionDistance + 1;
  for (const Subcommand& candidate : kSubcommands) {
    if (candidate.name == command) return std::string(candidate.program);
    const int d = EditDistance(candidate.name, command);
    if (d < distance) {
      distance = d;
      nearest = &candidate;
    }
  }
  return InvalidArgument(Str("unknown command \"", Printable(command), "\"",
                             nearest != nullptr ? Str("; did you mean \"", nearest->name, "\"?")
                                                : "; see thermocline --help"));
}

std::string ListSubcommands() {
  std::string text;
  for (const Subcommand& command : kSubcommands) {
    text +=
        Str("  ", command.name, std::string(10 - command.name.size(), ' '), command.summary, "\n");
  }
  return text;
}

std::string LongSpelling(const std::string& argument) {
  for (const auto& [brief, full] : kLongSpellings) {
    if (argument == brief) return std::string(full);
  }
  return argument;
}

bool IsUnknownShortWord(std::string_view argument) {
  if (argument.size() < 3 || argument[0] != '-') return false;
  const auto is_letter = [](unsigned char c) { return std::isalpha(c) != 0; };
  return std::all_of(argument.begin() + 1, argument.end(), is_letter);
}

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace thermocline::tools
