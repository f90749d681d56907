#include "coordinator/http/metrics_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace thermocline::coordinator::http {
namespace {

// The shortest text that reads back as the same number.
std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

std::string Escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (quotes && c == '"')) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

std::string_view TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "untyped";
}

void AppendSeries(std::string& out, std::string_view name, const Labels& labels,
                  std::string_view value) {
  out.append(name);
  char separator = '{';
  for (const auto& [label, text] : labels) {
    out.push_back(separator);
    out.append(label).append("=\"").append(Escaped(text, true)).push_back('"');
    separator = ',';
  }
  if (!labels.empty()) out.push_back('}');
  out.append(" ").append(value).push_back('\n');
}

void AppendHistogram(std::string& out, const std::string& name, const Labels& labels,
                     const HistogramSnapshot& histogram) {
  uint64_t cumulative = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    cumulative += histogram.counts[i];
    Labels with_edge = labels;
    with_edge.emplace_back("le",
                           i < histogram.edges.size() ? NumberText(histogram.edges[i]) : "+Inf");
    AppendSeries(out, name + "_bucket", with_edge, std::to_string(cumulative));
  }
  AppendSeries(out, name + "_sum", labels, NumberText(histogram.sum));
  AppendSeries(out, name + "_count", labels, std::to_string(cumulative));
}

MetricFamily Single(std::string name, std::string help, MetricType type, Labels labels,
                    double value) {
  return {std::move(name), std::move(help), type, {{std::move(labels), value}}};
}

struct WorkerField {
  const char* name;
  const char* help;
  MetricType type;
  double (*value)(const WorkerStatus& worker);
};

constexpr WorkerField kWorkerFields[] = {
    {"thermocline_worker_stage", "Pipeline stage of the worker; -1: none.", MetricType::kGauge,
     [](const WorkerStatus& w) { return static_cast<double>(w.stage); }},
    {"thermocline_worker_weight_bytes", "Weight bytes the worker holds.", MetricType::kGauge,
     [](const WorkerStatus& w) { return static_cast<double>(w.bytes_done); }},
    {"thermocline_worker_peak_rss_bytes", "Peak resident memory of the worker.", MetricType::kGauge,
     [](const WorkerStatus& w) { return static_cast<double>(w.peak_rss_bytes); }},
    {"thermocline_worker_heartbeat_age_seconds", "Time since the worker's last heartbeat.",
     MetricType::kGauge, [](const WorkerStatus& w) { return w.heartbeat_age_s; }},
    {"thermocline_worker_busy_ratio", "Share of the last heartbeat interval spent computing.",
     MetricType::kGauge, [](const WorkerStatus& w) { return w.busy_fraction; }},
    {"thermocline_worker_link_bytes_total", "Bytes the worker sent on its links.",
     MetricType::kCounter,
     [](const WorkerStatus& w) { return static_cast<double>(w.link_bytes_sent); }},
    {"thermocline_worker_kv_pages_used", "KV pages in use on the worker.", MetricType::kGauge,
     [](const WorkerStatus& w) { return static_cast<double>(w.kv_pages_used); }},
    {"thermocline_worker_steps_total", "Steps the worker has run.", MetricType::kCounter,
     [](const WorkerStatus& w) { return static_cast<double>(w.steps_done); }},
    {"thermocline_worker_stale_frames_total", "Frames of an older epoch that the worker dropped.",
     MetricType::kCounter,
     [](const WorkerStatus& w) { return static_cast<double>(w.stale_frames); }},
};

MetricFamily WorkerFamily(const WorkerField& field, const std::vector<WorkerStatus>& workers) {
  MetricFamily family{field.name, field.help, field.type, {}};
  const size_t n = std::min(workers.size(), Metrics::kMaxSeriesPerFamily);
  for (size_t i = 0; i < n; ++i) {
    const Labels labels = {{"worker", std::to_string(workers[i].id.value)},
                           {"host", workers[i].host}};
    family.samples.push_back({labels, field.value(workers[i])});
  }
  return family;
}

// Spare workers have no stage; a stage's time is its lead's.
std::vector<MetricFamily> StageFamilies(const std::vector<WorkerStatus>& workers) {
  MetricFamily total{"thermocline_stage_step_seconds_total",
                     "Time the stage computed in answered steps.",
                     MetricType::kCounter,
                     {}};
  MetricFamily last{"thermocline_stage_last_step_seconds",
                    "Time the stage computed in the last answered step.",
                    MetricType::kGauge,
                    {}};
  for (const WorkerStatus& worker : workers) {
    if (worker.stage < 0 || worker.is_helper) continue;
    if (total.samples.size() == Metrics::kMaxSeriesPerFamily) break;
    const Labels labels = {{"stage", std::to_string(worker.stage)}};
    total.samples.push_back({labels, static_cast<double>(worker.step_us_total) * 1e-6});
    last.samples.push_back({labels, static_cast<double>(worker.last_step_us) * 1e-6});
  }
  return {std::move(total), std::move(last)};
}

// Beside what stages take.
std::vector<MetricFamily> ExpectedFamilies(const ExpectedSpeed& expected) {
  MetricFamily stages{"thermocline_stage_expected_step_seconds",
                      "Time of the stage in a step of thermocline_expected_sequences, by the plan.",
                      MetricType::kGauge,
                      {}};
  const size_t n_stages = std::min(expected.stage_s.size(), Metrics::kMaxSeriesPerFamily);
  for (size_t i = 0; i < n_stages; ++i) {
    stages.samples.push_back({{{"stage", std::to_string(i)}}, expected.stage_s[i]});
  }
  const auto gauge = [](const char* name, const char* help, double value) {
    return Single(name, help, MetricType::kGauge, {}, value);
  };
  return {std::move(stages),
          gauge("thermocline_expected_sequences", "Sequences in the step that the plan is for.",
                static_cast<double>(expected.n_sequences)),
          gauge("thermocline_expected_step_seconds",
                "Time of that step through all stages and links.", expected.step_s),
          gauge("thermocline_expected_streams", "Streams that the plan is for.",
                static_cast<double>(expected.n_streams)),
          gauge("thermocline_expected_tokens_per_second",
                "Tokens per second of so many streams together.", expected.tokens_per_s),
          gauge("thermocline_expected_one_stream_tokens_per_second",
                "Tokens per second of a stream with nobody beside it.",
                expected.one_stream_tokens_per_s)};
}

struct Alias {
  const char* ours;
  const char* theirs;
};

// Only names whose meaning is the same.
constexpr Alias kAliases[] = {
    {"thermocline_requests_running", "vllm:num_requests_running"},
    {"thermocline_requests_waiting", "vllm:num_requests_waiting"},
    {"thermocline_kv_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"thermocline_prompt_tokens_total", "vllm:prompt_tokens_total"},
    {"thermocline_generated_tokens_total", "vllm:generation_tokens_total"},
    {"thermocline_preemptions_total", "vllm:num_preemptions_total"},
    {"thermocline_choices_finished_total", "vllm:request_success_total"},
    {"thermocline_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"thermocline_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"thermocline_inter_token_latency_seconds", "vllm:time_per_output_token_seconds"},
    {"thermocline_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    {"thermocline_request_prompt_tokens", "vllm:request_prompt_tokens"},
    {"thermocline_request_generation_tokens", "vllm:request_generation_tokens"},
    {"thermocline_request_choices", "vllm:request_params_n"},
    {"thermocline_prompt_tokens_total", "llamacpp:prompt_tokens_total"},
    {"thermocline_generated_tokens_total", "llamacpp:tokens_predicted_total"},
    {"thermocline_requests_running", "llamacpp:requests_processing"},
    {"thermocline_requests_waiting", "llamacpp:requests_deferred"},
    {"thermocline_steps_total", "llamacpp:n_decode_total"},
};

}  // namespace

std::string MetricsText(const std::vector<MetricFamily>& families) {
  std::string out;
  for (const MetricFamily& family : families) {
    out.append("# HELP ").append(family.name).append(" ");
    out.append(Escaped(family.help, false)).append("\n# TYPE ").append(family.name).append(" ");
    out.append(TypeName(family.type)).push_back('\n');
    for (const MetricSample& sample : family.samples) {
      if (const auto* histogram = std::get_if<HistogramSnapshot>(&sample.value)) {
        AppendHistogram(out, family.name, sample.labels, *histogram);
      } else {
        AppendSeries(out, family.name, sample.labels, NumberText(std::get<double>(sample.value)));
      }
    }
  }
  return out;
}

std::vector<MetricFamily> ServiceFamilies(const ServiceStatus& status,
                                          std::string_view model_name) {
  const Labels model = {{"model_name", std::string(model_name)}};
  const auto gauge = [&](const char* name, const char* help, double value) {
    return Single(name, help, MetricType::kGauge, model, value);
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    return Single(name, help, MetricType::kCounter, model, static_cast<double>(value));
  };
  const double kv_ratio =
      status.kv_tokens_total > 0
          ? static_cast<double>(status.kv_tokens_used) / static_cast<double>(status.kv_tokens_total)
          : 0;
  std::vector<MetricFamily> families = {
      gauge("thermocline_ready", "1 while requests are taken.",
            status.state == ServiceState::kReady ? 1 : 0),
      gauge("thermocline_requests_running", "Sequences being computed.", status.n_running),
      gauge("thermocline_requests_waiting", "Sequences in the queue.", status.n_waiting),
      gauge("thermocline_kv_usage_ratio", "Share of the KV cache in use, 0 to 1.", kv_ratio),
      gauge("thermocline_kv_tokens_total", "Tokens the KV cache can hold.",
            static_cast<double>(status.kv_tokens_total)),
      gauge("thermocline_last_token_age_seconds",
            "Time since any step gave a token or a part of a prompt.", status.last_token_age_s),
      gauge("thermocline_epoch", "Generation of the plan.", static_cast<double>(status.epoch)),
      counter("thermocline_plan_changes_total", "Changes of the plan while serving.",
              status.plan.n_changes),
      counter("thermocline_workers_lost_total", "Workers of the plan that were lost while serving.",
              status.plan.n_lost),
      gauge("thermocline_plan_drift_ratio",
            "How far firing neurons are from those planned for, 0 to 1.", status.plan.drift),
      gauge("thermocline_plan_predicted_gain_ratio",
            "Share of a step that another plan was last predicted to save.",
            status.plan.predicted_gain),
      gauge("thermocline_plan_change_pause_seconds", "Time streams waited for the last change.",
            status.plan.pause_s),
      counter("thermocline_prompt_tokens_total", "Prompt tokens processed.", status.prompt_tokens),
      counter("thermocline_generated_tokens_total", "Tokens generated.", status.generated_tokens),
      counter("thermocline_steps_total", "Steps through the pipeline.", status.steps),
      counter("thermocline_stale_frames_total",
              "Frames dropped: older epoch, unknown peer or malformed.", status.stale_frames),
      counter("thermocline_preemptions_total", "Sequences that lost their KV and were redone.",
              status.preemptions),
  };
  for (const WorkerField& field : kWorkerFields) {
    families.push_back(WorkerFamily(field, status.workers));
  }
  for (MetricFamily& family : StageFamilies(status.workers)) families.push_back(std::move(family));
  if (!status.expected) return families;
  for (MetricFamily& family : ExpectedFamilies(*status.expected)) {
    families.push_back(std::move(family));
  }
  return families;
}

std::vector<MetricFamily> AliasFamilies(const std::vector<MetricFamily>& families) {
  std::vector<MetricFamily> aliases;
  for (const Alias& alias : kAliases) {
    const auto it = std::find_if(families.begin(), families.end(), [&](const MetricFamily& family) {
      return family.name == alias.ours;
    });
    if (it == families.end()) continue;
    MetricFamily copy = *it;
    copy.name = alias.theirs;
    // vLLM's series carry the number of their engine; there is one.
    if (copy.name.starts_with("vllm:")) {
      for (MetricSample& sample : copy.samples) sample.labels.emplace_back("engine", "0");
    }
    aliases.push_back(std::move(copy));
  }
  return aliases;
}

}  // namespace thermocline::coordinator::http
