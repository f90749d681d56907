// The solver against an independent one: medium instances as mixed-integer programs, solved by
// COIN-OR's cbc (Debian package coinor-cbc). Skipped where that is not installed.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#include "base/str.h"
#include "placement/solver/split_solver.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/placement/split_instances.h"

namespace thermocline::placement {
namespace {

using thermocline::testing::IsOk;

constexpr double kScale = 100;   // of the objective: cbc's tolerances are absolute
constexpr double kExact = 1e-4;  // what cbc may leave open, of the objective
constexpr int kSeconds = 4;      // that cbc may compute; its bounds count if it takes them all

// The program: x = block on device, y = device takes part, s = an interval of it begins there, b =
// sent to one before another, T by layer, Z the bottleneck.
class Program {
 public:
  Program(const SplitProblem& problem, SplitObjective objective)
      : problem_(problem), objective_(objective) {}

  std::string Text() {
    AddObjective();
    text_ << "Subject To\n";
    for (size_t l = 0; l < problem_.layers.size(); ++l) AddLayer(l);
    for (size_t d = 0; d < problem_.devices.size(); ++d) AddDevice(d);
    text_ << "Binaries\n" << binaries_.str() << "End\n";
    return text_.str();
  }

 private:
  static std::string Name(const char* of, size_t l, size_t d) { return Str(of, "_", l, "_", d); }
  static std::string Name(const char* of, size_t l, size_t d, size_t k) {
    return Str(of, "_", l, "_", d, "_", k);
  }
  // One that is not 0: the format has no place for such terms.
  static std::string Term(double factor, const std::string& name) {
    char text[40];
    std::snprintf(text, sizeof(text), " %+.12g ", factor);
    return factor == 0 ? "" : text + name;
  }
  size_t n_devices() const { return problem_.devices.size(); }

  void AddObjective() {
    text_ << "Minimize\n obj:";
    const double latency = kScale * objective_.latency;
    for (size_t l = 0; l < problem_.layers.size(); ++l) {
      text_ << Term(latency, Str("T_", l));
      for (size_t d = 1; d < n_devices(); ++d) {
        text_ << Term(latency * problem_.devices[d].merge_s, Name("y", l, d)) << "\n";
      }
    }
    text_ << Term(kScale * (1 - objective_.latency), "Z") << "\n";
  }

  std::string Work(size_t l, size_t d) const {
    const std::vector<double>& seconds = problem_.layers[l].seconds[d];
    std::string sum;
    for (size_t k = 0; k + 1 < seconds.size(); ++k) {
      sum += Term(-(seconds[k + 1] - seconds[k]), Name("x", l, d, k)) + "\n";
    }
    return sum;
  }

  void AddLayer(size_t l) {
    const auto n_blocks = problem_.layers[l].block_bytes.size();
    for (size_t k = 0; k < n_blocks; ++k) {
      for (size_t d = 0; d < n_devices(); ++d) {
        text_ << Term(1, Name("x", l, d, k));
        binaries_ << Name("x", l, d, k) << "\n";
      }
      text_ << " = 1\n";
    }
    for (size_t d = 0; d < n_devices(); ++d) {
      binaries_ << Name("y", l, d) << "\n";
      for (size_t k = 0; k < n_blocks; ++k) {
        text_ << Term(1, Name("x", l, d, k)) << Term(-1, Name("y", l, d)) << " <= 0\n";
      }
      AddInterval(l, d);
      AddEnd(l, d);
    }
    AddOrder(l);
  }

  // The device's blocks begin once.
  void AddInterval(size_t l, size_t d) {
    std::string begins;
    for (size_t k = 0; k < problem_.layers[l].block_bytes.size(); ++k) {
      text_ << Term(1, Name("s", l, d, k)) << Term(-1, Name("x", l, d, k));
      if (k > 0) text_ << Term(1, Name("x", l, d, k - 1));
      text_ << " >= 0\n";
      begins += Term(1, Name("s", l, d, k)) + "\n";
    }
    text_ << begins << Term(-1, Name("y", l, d)) << " <= 0\n";
  }

  // T of the layer is not before the end of device d. Without a part all terms are 0.
  void AddEnd(size_t l, size_t d) {
    const SplitDevice& device = problem_.devices[d];
    text_ << Term(1, Str("T_", l)) << Work(l, d);
    text_ << Term(-(device.send_s + device.round_trip_s + device.part_s), Name("y", l, d));
    for (size_t e = 1; e < n_devices(); ++e) {
      if (e == d) continue;
      text_ << (d == 0 ? Term(-problem_.devices[e].send_busy_s, Name("y", l, e))
                       : Term(-problem_.devices[e].send_s, Name("b", l, e, d)));
    }
    text_ << " >= 0\n";
  }

  // Of two members one is sent to before the other, and there are no circles.
  void AddOrder(size_t l) {
    const auto before = [&](size_t d, size_t e) { return Term(1, Name("b", l, d, e)); };
    for (size_t d = 1; d < n_devices(); ++d) {
      for (size_t e = 1; e < n_devices(); ++e) {
        if (e == d) continue;
        binaries_ << Name("b", l, d, e) << "\n";
        if (d < e) {
          text_ << before(d, e) << before(e, d) << Term(-1, Name("y", l, d))
                << Term(-1, Name("y", l, e)) << " >= -1\n";
        }
        for (size_t f = d + 1; f < n_devices(); ++f) {
          if (f == e || e < d) continue;
          text_ << before(d, e) << before(e, f) << before(f, d) << " <= 2\n";
        }
      }
    }
  }

  void AddDevice(size_t d) {
    const SplitDevice& device = problem_.devices[d];
    double fixed = 0;
    std::string busy = Term(1, "Z"), bytes;
    for (size_t l = 0; l < problem_.layers.size(); ++l) {
      busy += Work(l, d) + Term(-device.part_s, Name("y", l, d));
      if (d == 0) {
        fixed += problem_.layers[l].fixed_s;
        for (size_t e = 1; e < n_devices(); ++e) {
          const SplitDevice& other = problem_.devices[e];
          busy += Term(-(other.send_busy_s + other.merge_s), Name("y", l, e));
        }
      }
      for (size_t k = 0; k < problem_.layers[l].block_bytes.size(); ++k) {
        bytes +=
            Term(static_cast<double>(problem_.layers[l].block_bytes[k]), Name("x", l, d, k)) + "\n";
      }
    }
    text_ << busy << " >= " << fixed << "\n";
    text_ << bytes << " <= " << device.memory_bytes << "\n";
  }

  const SplitProblem& problem_;
  const SplitObjective objective_;
  std::ostringstream text_, binaries_;
};

struct Outcome {
  double value = std::numeric_limits<double>::infinity();  // of the best split it found
  double bound = 0;                                        // no split is below
};

// The number behind the last `label` of the text.
std::optional<double> NumberAfter(const std::string& text, const std::string& label) {
  const size_t at = text.rfind(label);
  if (at == std::string::npos) return std::nullopt;
  return std::strtod(text.c_str() + at + label.size(), nullptr);
}

Outcome SolveByCbc(const SplitProblem& problem, SplitObjective objective) {
  namespace fs = std::filesystem;
  const fs::path path = fs::temp_directory_path() / Str("thermocline_cbc_", getpid(), ".lp");
  std::ofstream(path) << Program(problem, objective).Text();
  const std::string command =
      Str("cbc ", path.string(), " sec ", kSeconds, " ratio ", kExact, " solve quit 2>&1");
  std::string log;
  FILE* const pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (pipe != nullptr) {
    const size_t n = std::fread(buffer, 1, sizeof(buffer), pipe);
    if (n == 0) break;
    log.append(buffer, n);
  }
  if (pipe != nullptr) pclose(pipe);
  fs::remove(path);
  double fixed = 0;
  for (const SplitLayer& layer : problem.layers) fixed += layer.fixed_s;
  const double own = objective.latency * fixed;  // not in the program
  Outcome outcome;
  if (const auto value = NumberAfter(log, "Objective value:")) {
    outcome.value = *value / kScale + own;
  }
  if (const auto bound = NumberAfter(log, "Lower bound:")) {
    outcome.bound = *bound / kScale + own;
  } else if (log.find("Optimal solution found") != std::string::npos) {
    outcome.bound = outcome.value * (1 - 2 * kExact);
  } else {
    ADD_FAILURE() << "cbc says neither optimum nor bound: " << log;
  }
  return outcome;
}

bool HasCbc() {
  const int status = std::system("command -v cbc >/dev/null 2>&1");
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class Cbc : public ::testing::TestWithParam<int> {};

TEST_P(Cbc, AgreesOnAMediumInstance) {
  if (!HasCbc()) GTEST_SKIP() << "cbc is not installed (Debian package coinor-cbc)";
  const int seed = GetParam();
  const SmallShape shape{.n_devices = 3 + seed % 3, .n_layers = 4 + seed % 5, .n_blocks = 8};
  const SplitProblem problem = RandomProblem(shape, static_cast<uint64_t>(1000 + seed));
  const SplitObjective objective{seed % 4 == 3 ? 0.5 : 1.0};
  const Result<SplitSolution> ours = SolveSplit(problem, {.objective = objective});
  ASSERT_THAT(ours.status(), IsOk());
  const Outcome theirs = SolveByCbc(problem, objective);
  EXPECT_LE(ours->lower_bound, theirs.value * (1 + 1e-6));
  EXPECT_GE(ours->value, theirs.bound * (1 - 1e-6));
  EXPECT_LE(ours->value * (1 - ours->gap() - 1e-6), theirs.value);
  std::printf("seed %2d: %d devices %d layers: ours %.4f bound %.4f, cbc %.4f bound %.4f\n", seed,
              shape.n_devices, shape.n_layers, ours->value, ours->lower_bound, theirs.value,
              theirs.bound);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Cbc, ::testing::Range(0, 20));

}  // namespace
}  // namespace thermocline::placement
