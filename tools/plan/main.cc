// thermocline-plan: which worker should hold what of a model, before any of them is started.
#include <CLI/CLI.hpp>

#include "placement/context.h"
#include "tools/plan/flags.h"
#include "tools/plan/run.h"
#include "tools/program.h"

namespace {

constexpr char kDescription[] =
    "Plans a model on a cluster: which worker leads which layers, who helps with which neurons, "
    "how long a token takes and why, and how far from the best that can be. Reads headers and "
    "profiles only; `thermocline serve --plan` runs the result. Examples:\n"
    "  thermocline plan --model M.gguf --workers 4 --memory 32G --read-gb-per-s 25 --link "
    "25gbe-tcp\n"
    "  thermocline plan --model M.gguf --cluster cluster.yaml --compare -o plan.json --html "
    "plan.html\n"
    "  thermocline plan --model M.gguf --cluster cluster.yaml --plan edited.json --compare";

using thermocline::tools::PlanFlags;

void AddClusterFlags(CLI::App* app, PlanFlags* flags) {
  app->add_option("--cluster", flags->cluster_path, "Cluster profile (YAML)");
  app->add_option("--workers", flags->n_workers, "Instead: so many equal workers");
  app->add_option("--memory", flags->memory, "Of each of them, e.g. 64G (default: 16G)");
  app->add_option("--read-gb-per-s", flags->read_gb_per_s,
                  "Memory bandwidth of each of them (default: 20)")
      ->check(CLI::PositiveNumber);
  app->add_option("--link", flags->link,
                  "What joins two hosts where the profile does not say; see --list-links")
      ->capture_default_str();
  app->add_flag("--list-links", flags->list_links, "Print the kinds of links and end");
  app->add_option("--save-cluster", flags->save_cluster,
                  "Write the cluster with all assumed numbers as YAML; -: to stdout");
}

void AddModelFlags(CLI::App* app, PlanFlags* flags) {
  app->add_option("model,-m,--model", flags->model_path, "GGUF file (or PowerInfer's PWRI)");
  app->add_option("--ffn", flags->ffn, "auto, dense, exact, predicted or thresholded")
      ->capture_default_str();
  app->add_option("--allow-loss", flags->allowed_loss,
                  "Perplexity that predicted or thresholded may cost, 0.01 = 1 %");
  app->add_option("--predictor", flags->predictor_path,
                  "Sparsity file (default: M.predictor.gguf beside M.gguf, if there)");
  app->add_option("--active", flags->active,
                  "Share of neurons active for a token (default: what M.profile.gguf says)");
  app->add_option("-c,--ctx-size", flags->n_ctx, "Longest sequence (default: the model's)");
  app->add_option("--parallel", flags->n_parallel, "Sequences of that length to keep")
      ->capture_default_str();
  app->add_option("--batch-size", flags->batch_size, "Rows of the largest step")
      ->capture_default_str();
  app->add_option("--kv-cache-dtype", flags->kv_dtype, "f32, f16, or auto (f32)")
      ->capture_default_str();
  app->add_option("--transport", flags->transport,
                  "mpi or zmq, which the plan then demands; auto: each link as the profile has "
                  "it, which the plan leaves to `serve` (default: auto)");
  app->add_option("--wire-dtype", flags->wire_dtype,
                  "Activations on links: f32, f16, bf16, or auto: f16 between hosts, f32 within "
                  "one (only f32 everywhere is bit-exact)")
      ->capture_default_str();
}

void AddGoalFlags(CLI::App* app, PlanFlags* flags) {
  app->add_option("--objective", flags->objective,
                  "latency (one stream), throughput (many), weighted (half and half), or the "
                  "weight of latency, 0 to 1 (default: as serve's, weighted, for one stream "
                  "latency)");
  app->add_option("--streams", flags->n_streams,
                  "Sequences expected to decode at the same time (default: --parallel)")
      ->check(CLI::Range(1, 4096));
  app->add_option(
         "-b,--sequences", flags->n_sequences,
         "Sequences in the step whose times are told; plans are made for --streams (default: "
         "as the plan has them)")
      ->check(CLI::Range(1, 4096));
  app->add_option(
         "-d,--depth", flags->n_depth,
         "Tokens in their context (default: half of what --ctx-size and --parallel leave each, "
         "1024 at most without --ctx-size)")
      ->check(CLI::Range(0, thermocline::placement::kMaxContextTokens));
  app->add_option("--policy", flags->policy,
                  "optimal, frequency-greedy, proportional, pipeline-only or powerinfer")
      ->capture_default_str();
  app->add_option("--max-group", flags->max_group,
                  "Members of stages that are tried in all combinations, at most")
      ->capture_default_str();
  app->add_flag("--compare", flags->compare, "Say what the other policies would do");
  app->add_flag("--explain", flags->explain,
                "Say who holds which neurons and where the time goes, layer by layer");
  app->add_option("--plan", flags->plan_path,
                  "Say what this plan (JSON) would do, instead of making one");
  app->add_option("-o,--output", flags->output_path,
                  "Write the plan as JSON; -: to stdout, and the explanation to stderr");
  app->add_flag("--with-neuron-tables", flags->with_neuron_tables,
                "Write the order of its neurons into the plan, which then needs no profile");
  app->add_option("--html", flags->html_path, "Draw the plan on a page; -: to stdout");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  tools::PlanFlags flags;
  CLI::App app(kDescription, "thermocline plan");
  AddModelFlags(&app, &flags);
  AddClusterFlags(&app, &flags);
  AddGoalFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::IgnoreClosedPipes();
  return tools::EndProgram(app, tools::RunPlan(flags));
}
