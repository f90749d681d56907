// thermocline-inspect: what a model file has in it and what it would cost to run here.
#include <CLI/CLI.hpp>

#include "tools/inspect/flags.h"
#include "tools/inspect/run.h"
#include "tools/program.h"

namespace {

constexpr char kDescription[] =
    "Shows a model file: sizes, tokenizer, tensors by role and by layer, the bytes that a token "
    "reads, and a roofline of its operators: what each reads and computes, and how fast this "
    "machine could be at best. Reads the header and samples of the weights only. Example:\n"
    "  thermocline inspect model.gguf --threads 2 --ctx 1024";

void AddFlags(CLI::App* app, thermocline::tools::InspectFlags* flags) {
  app->add_option("model,-m,--model", flags->model_path, "GGUF file (or PowerInfer's PWRI)")
      ->required();
  app->add_flag("--tensors", flags->tensors, "List every tensor");
  app->add_flag("--json", flags->json, "Print one JSON object");
  app->add_option("-t,--threads", flags->n_threads,
                  "Threads to measure this machine with (default: all cores)");
  app->add_flag("--no-measure", flags->no_measure,
                "Bytes and FLOPs only: do not measure this machine");
  app->add_option("-c,--ctx", flags->n_context, "Tokens in the context of the predicted steps")
      ->capture_default_str();
  app->add_option("--active", flags->active,
                  "Share of neurons active for a token, 0 to 1, for the sparse modes (default: "
                  "what M.profile.gguf beside M.gguf says)");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  tools::InspectFlags flags;
  CLI::App app(kDescription, "thermocline inspect");
  AddFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::IgnoreClosedPipes();
  return tools::EndProgram(app, tools::RunInspect(flags));
}
