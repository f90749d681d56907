// thermocline-inspect: what a model file has in it and what it would cost to run here.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "tools/inspect/flags.h"
#include "tools/inspect/run.h"

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
  app.failure_message([](const CLI::App* self, const CLI::Error& error) {
    return self->get_name() + ": " + error.what() + "; see --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const Status status = tools::RunInspect(flags);
  if (status.ok()) return 0;
  std::fprintf(stderr, "thermocline inspect: %s\n", status.message().c_str());
  return status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kDataLoss ||
                 status.code() == StatusCode::kNotFound
             ? 2
             : 1;
}
