#include "tests/unit/house/include_rules.h"

#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

namespace thermocline::house {
namespace {

using Names = std::set<std::string, std::less<>>;

// What each folder may include beside itself and base/ (docs/ARCHITECTURE.md, "Floors").
const std::map<std::string, Names, std::less<>>& Allowed() {
  static const std::map<std::string, Names, std::less<>> rules = {
      {"base", {}},
      {"model", {}},
      {"kernels", {}},
      {"comm", {}},
      {"placement", {"model"}},
      {"proto", {"placement", "model"}},
      {"worker", {"model", "kernels", "comm", "proto", "placement"}},
      {"coordinator", {"model", "comm", "proto", "placement"}},
      {"tools", {"model", "kernels", "comm", "proto", "placement", "worker"}},
  };
  return rules;
}

// Headers that are narrower than their folder's rule: the folder may include only these.
struct NarrowRule {
  std::string_view from;
  std::string_view to;
  Names headers;
};
const std::vector<NarrowRule>& NarrowRules() {
  static const std::vector<NarrowRule> rules = {
      {"proto", "placement", {"placement/plan.h", "placement/profile.h"}},
      {"proto", "model", {"model/ffn_mode.h", "model/sampler.h", "model/sampling_params.h"}},
      {"worker", "placement", {"placement/plan.h", "placement/profile.h"}},
  };
  return rules;
}

struct LibraryHome {
  std::string_view prefix;              // of the include
  std::vector<std::string_view> homes;  // path prefixes of the files that may have it
};
const std::vector<LibraryHome>& LibraryHomes() {
  static const std::vector<LibraryHome> homes = {
      {"spdlog/", {"base/log.cc"}},
      {"xxhash.h", {"base/hash.cc"}},
      {"pcre2", {"model/pre_tokenizer.cc"}},
      {"hwy/", {"kernels/cpu/"}},
      {"hwloc", {"worker/probe/host_topology.cc"}},
      {"cuda", {"kernels/cuda/"}},
      {"nvtx3/", {"kernels/cuda/"}},
      {"zmq", {"comm/"}},
      {"sodium", {"comm/"}},
      {"mpi.h", {"comm/"}},
      {"nccl", {"comm/"}},
      {"google/protobuf", {"proto/codec"}},
      {"boost/", {"coordinator/http/server", "coordinator/http/connection"}},
      {"benchmark/", {"tools/bench/"}},
      {"yaml-cpp/", {"placement/cluster_yaml.cc"}},
      {"CLI/", {"tools/", "worker/command_line.cc", "coordinator/command_line.cc"}},
  };
  return homes;
}

std::string FolderOf(std::string_view path) { return std::string(path.substr(0, path.find('/'))); }

std::optional<std::string> CheckOwn(std::string_view path, const std::string& include) {
  const std::string from = FolderOf(path);
  const std::string to = FolderOf(include);
  if (to == from || to == "base") return std::nullopt;
  if (!Allowed().at(from).contains(to)) return from + " must not include " + include;
  for (const NarrowRule& rule : NarrowRules()) {
    if (rule.from == from && rule.to == to && !rule.headers.contains(include)) {
      return from + " may include of " + to + " only its value headers, not " + include;
    }
  }
  return std::nullopt;
}

std::optional<std::string> CheckLibrary(std::string_view path, const std::string& include) {
  const bool generated = include.ends_with(".pb.h");
  for (const LibraryHome& library : LibraryHomes()) {
    if (!include.starts_with(library.prefix) &&
        !(generated && library.prefix == "google/protobuf")) {
      continue;
    }
    for (const std::string_view home : library.homes) {
      if (path.starts_with(home)) return std::nullopt;
    }
    return include + " does not live in " + std::string(path);
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> FindViolations(std::string_view path, std::string_view source) {
  static const std::regex kInclude("^\\s*#\\s*include\\s*[<\"]([^>\"]+)[>\"]");
  std::vector<std::string> violations;
  if (!Allowed().contains(FolderOf(path))) return violations;
  std::istringstream lines{std::string(source)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) continue;
    const std::string include = match[1];
    const bool own = Allowed().contains(FolderOf(include)) && !include.ends_with(".pb.h");
    const auto violation = own ? CheckOwn(path, include) : CheckLibrary(path, include);
    if (violation) {
      violations.push_back(std::string(path) + ":" + std::to_string(number) + " " + *violation);
    }
  }
  return violations;
}

}  // namespace thermocline::house
