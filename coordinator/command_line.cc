#include "coordinator/command_line.h"

#include <CLI/CLI.hpp>
#include <string>

#include "model/neuron_rows_help.h"
#include "placement/context.h"

namespace thermocline::coordinator {
namespace {

void AddApiFlags(CLI::App* app, ServeFlags* flags) {
  constexpr char kGroup[] = "API";
  app->add_option("--host", flags->host, "Address to listen on")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--port", flags->port, "Port; 0: any")->capture_default_str()->group(kGroup);
  app->add_option("--api-key", flags->api_keys, "Key that clients must send (repeatable)")
      ->delimiter(',')
      ->group(kGroup);
  app->add_option("--api-key-file", flags->api_key_file, "File with one key per line")
      ->group(kGroup);
  app->add_option("-a,--alias,--served-model-name", flags->names,
                  "Name of the model for clients (repeatable; default: the file's name)")
      ->delimiter(',')
      ->group(kGroup);
  app->add_option("--chat-template,--chat-template-file", flags->chat_template,
                  "Instead of the model's: chatml, a file, or the template itself")
      ->group(kGroup);
  app->add_option("--cors-origin,--allowed-origins", flags->cors_origins,
                  "Web page allowed to call the API (repeatable; * for all)")
      ->group(kGroup);
  app->add_option("--threads-http", flags->n_http_threads, "HTTP threads")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(kGroup);
}

void AddModelFlags(CLI::App* app, ServeFlags* flags) {
  constexpr char kGroup[] = "Model and scheduling";
  app->add_option("-m,--model,model", flags->model_path, "GGUF file (or PowerInfer's PWRI)")
      ->required()
      ->group(kGroup);
  app->add_option("-c,--ctx-size,--max-model-len", flags->n_ctx,
                  "Longest sequence, e.g. 4096 or 32K (default: the model's)")
      ->group(kGroup);
  app->add_option("--parallel,--max-num-seqs", flags->n_parallel,
                  "Sequences of that length the KV cache should hold")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("-b,--batch-size,--max-num-batched-tokens", flags->max_step_tokens,
                  "Most tokens in one step")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--prefill-chunk", flags->prefill_chunk,
                  "Prompt tokens per step while others decode")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--max-waiting", flags->max_waiting, "Queued sequences before 429")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--ffn", flags->ffn,
                  "dense: every neuron; exact: skip those a ReLU silenced; predicted, thresholded: "
                  "skip more, by a sparsity file; auto: the fastest allowed, measured per layer")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--predictor", flags->predictor_path,
                  "Sparsity file (default: M.predictor.gguf beside M.gguf, if there)")
      ->group(kGroup);
  app->add_option(
         "--allow-loss", flags->allowed_loss,
         "Perplexity that predicted or thresholded may cost, 0.01 = 1 % (default: what the "
         "sparsity file allows)")
      ->group(kGroup);
  app->add_option("--kv-cache-dtype,--cache-type-k,--cache-type-v", flags->kv_dtype,
                  "Type of stored keys and values: f32, f16, or auto (f32)")
      ->capture_default_str()
      ->group(kGroup);
}

void AddPlanFlags(CLI::App* app, ServeFlags* flags) {
  constexpr char kGroup[] = "Which worker holds what";
  app->add_option("--policy", flags->policy,
                  "optimal: stages and shared neurons, as predicted to be fastest, or no split at "
                  "all; pipeline-only: whole layers; or as others do it: frequency-greedy, "
                  "proportional, powerinfer (default: optimal)")
      ->group(kGroup);
  app->add_option("--objective", flags->objective,
                  "What is fast: latency (one stream), throughput (many), weighted (half and "
                  "half), or the weight of latency, 0 to 1 (default: weighted, for one stream "
                  "latency)")
      ->group(kGroup);
  app->add_option("--streams", flags->n_streams,
                  "Sequences expected to decode at the same time (default: --parallel)")
      ->check(CLI::Range(1, 4096))
      ->group(kGroup);
  app->add_option("--depth", flags->n_depth,
                  "Tokens in their context, that plans are made for (default: half of what "
                  "--ctx-size and --parallel leave each, 1024 at most without --ctx-size)")
      ->check(CLI::Range(0, placement::kMaxContextTokens))
      ->group(kGroup);
  app->add_option("--active", flags->active,
                  "Share of neurons active for a token, that plans are made for (default: what "
                  "M.profile.gguf says, all without)")
      ->check(CLI::Range(0.0, 1.0))
      ->group(kGroup);
  app->add_option("--cluster", flags->cluster_path,
                  "Cluster profile (docs/cluster-profile.md): instead of measuring links, and what "
                  "it says of workers")
      ->group(kGroup);
  app->add_option(
         "--save-cluster", flags->save_cluster_path,
         "Write what was measured as a cluster profile, to edit and give back; -: to stdout")
      ->group(kGroup);
  app->add_option("--plan", flags->plan_path,
                  "Instead: a plan by hand or of `thermocline plan` (docs/plan-format.md)")
      ->group(kGroup);
}

void AddClusterFlags(CLI::App* app, ServeFlags* flags) {
  constexpr char kGroup[] = "Cluster";
  app->add_option("--transport", flags->transport,
                  "Links between workers: mpi, zmq, or auto: each pair takes MPI where both are "
                  "ranks of mpirun, else ZeroMQ, so that others may join")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--replan", flags->replan,
                  "Another plan while serving: auto (asked for, workers come or go, other neurons "
                  "are hot), now (asked for, workers go) or off (default: auto; with --plan now)")
      ->group(kGroup);
  app->add_option(
         "--replan-interval", flags->replan_interval_s,
         "Seconds between two looks at which neurons are hot; every tenth may search for a "
         "plan")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--weights-from", flags->weights_from,
                  "file: each worker reads the path itself; coordinator: it sends them")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--wire-dtype", flags->wire_dtype,
                  "Activations on links: f32, f16, bf16, or auto: f16 between hosts, f32 within "
                  "one (only f32 everywhere is bit-exact)")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--workers", flags->n_workers,
                  "Wait for this many `thermocline worker --join` instead of MPI's")
      ->check(CLI::Range(1, 1024))
      ->group(kGroup);
  app->add_option("--cluster-address", flags->cluster_address,
                  "Where workers connect, e.g. 10.0.0.1 or 0.0.0.0:40123")
      ->group(kGroup);
  app->add_option("--key", flags->key, "The cluster's key; better as THERMOCLINE_CLUSTER_KEY")
      ->group(kGroup);
  app->add_option("--join-timeout", flags->join_timeout_s, "Seconds to wait for all workers")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--load-timeout", flags->load_timeout_s,
                  "Seconds in which a worker that loads must get on; else its plan is given up")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--drain-timeout", flags->drain_timeout_s, "Seconds to finish after SIGUSR1")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str()
      ->group(kGroup);
}

void AddWorkerFlags(CLI::App* app, ServeFlags* flags) {
  constexpr char kGroup[] = "Workers";
  app->add_option("-t,--threads", flags->n_threads, "Compute threads of each worker")
      ->check(CLI::Range(0, 1024))
      ->group(kGroup);
  app->add_option("--cpus", flags->cpus,
                  "CPUs that the workers of a host compute on, e.g. 0-3,8, a thread on each")
      ->group(kGroup);
  app->add_option("--isa", flags->isa,
                  "Instruction set of the workers' kernels: auto, or one their machines have "
                  "(avx512-vnni, avx512, avx2, sse4, neon, scalar)")
      ->group(kGroup);
  app->add_option(
         "--device", flags->device,
         "What workers compute on: cpu, cuda, cuda:1 (the second GPU), or auto: GPUs while "
         "there are some; a service started alone has a worker for each GPU and one for "
         "the CPU")
      ->group(kGroup);
  app->add_option("--memory", flags->memory, "Memory of each worker, e.g. 1.8G")->group(kGroup);
  app->add_option("--gpu-memory", flags->gpu_memory,
                  "GPU memory of each worker that has one, for everything, e.g. 20G")
      ->group(kGroup);
  app->add_option("--gpu-rows", flags->gpu_rows, model::kNeuronRowsHelp)
      ->check(CLI::IsMember({"as-is", "fp8-e4m3", "fp8-e5m2"}))
      ->group(kGroup);
  app->add_option("--nccl", flags->nccl,
                  "How GPUs add the sums of one stage and pass activations to the next: auto (by "
                  "NCCL where it is installed, between stages where it is faster, too), always "
                  "(between stages also where it is not), or off (by way of the hosts)")
      ->check(CLI::IsMember({"auto", "always", "off"}))
      ->group(kGroup);
  app->add_option("--cuda-graphs", flags->cuda_graphs,
                  "Whether GPUs replay decode steps that come again and again in one shape, as one "
                  "launch each: auto or off")
      ->check(CLI::IsMember({"auto", "off"}))
      ->group(kGroup);
  app->add_option("--shape", flags->shape,
                  "For experiments: make the workers' links slower than they are, e.g. "
                  "latency=200us,bandwidth=1.25GB/s (workers that join need it themselves)")
      ->group(kGroup);
  app->add_option(
         "--slowdown", flags->slowdown,
         "For experiments: the workers compute this many times slower than they can (under "
         "mpirun, which takes other flags for other ranks after a colon, some of them)")
      ->check(CLI::Range(1.0, 100.0))
      ->group(kGroup);
  app->add_option("--cache-dir", flags->cache_dir, "Each worker's folder for fetched weights")
      ->group(kGroup);
}

void AddLogFlags(CLI::App* app, ServeFlags* flags) {
  app->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_option("--dump-logits", flags->dump_logits_dir,
                  "Diagnostics: the last stage writes every row of logits to this folder");
  app->add_option("--trace", flags->trace_path,
                  "Diagnostics: writes what every worker does and when to this file, which\n"
                  "ui.perfetto.dev opens");
}

}  // namespace

std::optional<int> ParseServeCommandLine(int argc, char** argv, ServeFlags* flags) {
  CLI::App app(
      "Serves a model over an OpenAI-compatible API from the workers of a cluster.\n"
      "Under mpirun, rank 0 coordinates and the other ranks are the workers; alone, one\n"
      "worker is started beside the coordinator.",
      "thermocline serve");
  AddModelFlags(&app, flags);
  AddApiFlags(&app, flags);
  AddClusterFlags(&app, flags);
  AddWorkerFlags(&app, flags);
  AddPlanFlags(&app, flags);
  AddLogFlags(&app, flags);
  app.failure_message([](const CLI::App* self, const CLI::Error& error) {
    return self->get_name() + ": " + error.what() + "; see --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

}  // namespace thermocline::coordinator
