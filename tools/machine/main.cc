// thermocline-machine: what this host can do, as a worker would say of itself.
#include <CLI/CLI.hpp>

#include "model/neuron_rows_help.h"
#include "tools/machine/flags.h"
#include "tools/machine/run.h"
#include "tools/program.h"

namespace {

constexpr char kDescription[] =
    "Measures this machine as a worker does when it starts: how fast it reads memory, how fast its "
    "operators work through weights of each type, cores, NUMA nodes, GPUs. Takes about half a "
    "second. What it saves is a cluster of this one host, to plan with or to edit. Examples:\n"
    "  thermocline machine\n"
    "  thermocline machine --save-cluster cluster.yaml\n"
    "  thermocline plan --model M.gguf --cluster cluster.yaml";

void AddFlags(CLI::App* app, thermocline::tools::MachineFlags* flags) {
  app->add_option("-t,--threads", flags->n_threads, "Compute threads (default: all cores)");
  app->add_option("--cpus", flags->cpus,
                  "CPUs to compute on, e.g. 0-3,8: each thread stays on one of them");
  app->add_option("--device", flags->device,
                  "What to measure: cpu, cuda (a GPU), cuda:1 (the second one), or auto: a GPU if "
                  "there is one")
      ->capture_default_str();
  app->add_option("--gpu-rows", flags->gpu_rows, thermocline::model::kNeuronRowsHelp)
      ->capture_default_str();
  app->add_option("--isa", flags->isa, "Instruction set of the kernels")->capture_default_str();
  app->add_option("--memory", flags->memory,
                  "Memory that a plan may use here, e.g. 64G (default: 90 % of what is available)");
  app->add_option("--seconds", flags->seconds, "Time for all measurements")->capture_default_str();
  app->add_option("--save-cluster", flags->save_cluster,
                  "Write a cluster profile (YAML) of this host; -: to stdout");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  tools::MachineFlags flags;
  CLI::App app(kDescription, "thermocline machine");
  AddFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::IgnoreClosedPipes();
  return tools::EndProgram(app, tools::RunMachine(flags));
}
