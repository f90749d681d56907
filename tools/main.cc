// thermocline: the front program. Finds and becomes the program of a subcommand, git-style; under
// mpirun `serve` becomes the coordinator on rank 0 and a worker elsewhere.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/version.h"
#include "comm/mpi_launch.h"
#include "tools/subcommands.h"

namespace {

using thermocline::tools::FindSubcommand;

constexpr char kUsage[] =
    "Usage: thermocline COMMAND [OPTIONS]\n"
    "\n"
    "Serves large language models from several machines.\n"
    "\n"
    "Commands:\n%s"
    "\n"
    "  mpirun -n 4 thermocline serve --model model.gguf     a coordinator and three workers\n"
    "  thermocline serve --model model.gguf                 both on this machine\n"
    "  thermocline generate --model model.gguf --prompt \"Once upon a time\" -n 64\n"
    "\n"
    "`thermocline COMMAND --help` explains a command.\n";

int Usage(std::FILE* out, int code) {
  std::fprintf(out, kUsage, thermocline::tools::ListSubcommands().c_str());
  return code;
}

// The folder of this program, so that an installation can be moved.
std::string OwnFolder() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n <= 0) return ".";
  const std::string full(path, static_cast<size_t>(n));
  return full.substr(0, full.rfind('/'));
}

std::optional<std::string> LookUp(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

int Become(const std::string& program, std::vector<std::string> arguments) {
  const std::string path = OwnFolder() + "/" + program;
  std::vector<char*> argv;
  arguments.insert(arguments.begin(), path);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  std::fprintf(stderr, "thermocline: cannot start %s: is the installation complete?\n",
               path.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return Usage(stderr, 2);
  const std::string command = argv[1];
  if (command == "--help" || command == "-h" || command == "help") return Usage(stdout, 0);
  if (command == "--version" || command == "version") {
    std::printf("thermocline %s\n", std::string(thermocline::kVersion).c_str());
    return 0;
  }
  const auto found = FindSubcommand(command);
  if (!found.ok()) {
    std::fprintf(stderr, "thermocline: %s\n", found.status().message().c_str());
    return 2;
  }
  std::vector<std::string> arguments(argv + 2, argv + argc);
  for (std::string& argument : arguments) {
    argument = thermocline::tools::LongSpelling(argument);
    if (!thermocline::tools::IsUnknownShortWord(argument)) continue;
    std::fprintf(stderr, "thermocline %s: unknown option %s; see --help\n", command.c_str(),
                 argument.c_str());
    return 2;
  }
  const auto launch = thermocline::comm::DetectMpiLaunch(LookUp);
  const bool is_cluster = command == "serve" || command == "worker";
  if (!is_cluster && launch && launch->size > 1) {
    if (launch->rank > 0) return 0;
    std::fprintf(stderr,
                 "thermocline %s: one process does this; the other %d of mpirun have ended "
                 "(`thermocline serve` uses them all)\n",
                 command.c_str(), launch->size - 1);
  }
  if (command == "serve" && launch && launch->rank > 0) {
    arguments.insert(arguments.begin(), "--mpi");
    return Become("thermocline-worker", std::move(arguments));
  }
  return Become(*found, std::move(arguments));
}
