#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/http/metrics_text.h"
#include "coordinator/http/request_metrics.h"

namespace thermocline::coordinator::http {
namespace {

using ::testing::HasSubstr;

TEST(MetricsTextTest, WritesTheTextFormat) {
  constexpr double kEdges[] = {0.5, 2};
  Metrics metrics;
  metrics.AddCounter("a_total", "Back\\slash\nline.", {{"k", "quo\"te"}}).Add(3);
  metrics.AddGauge("b", "Gauge.").Set(0.25);
  Histogram& histogram = metrics.AddHistogram("c", "Histogram.", kEdges, {{"m", "x"}});
  histogram.Observe(1);
  histogram.Observe(9);
  EXPECT_EQ(MetricsText(metrics.Collect()),
            "# HELP a_total Back\\\\slash\\nline.\n"
            "# TYPE a_total counter\n"
            "a_total{k=\"quo\\\"te\"} 3\n"
            "# HELP b Gauge.\n"
            "# TYPE b gauge\n"
            "b 0.25\n"
            "# HELP c Histogram.\n"
            "# TYPE c histogram\n"
            "c_bucket{m=\"x\",le=\"0.5\"} 0\n"
            "c_bucket{m=\"x\",le=\"2\"} 1\n"
            "c_bucket{m=\"x\",le=\"+Inf\"} 2\n"
            "c_sum{m=\"x\"} 10\n"
            "c_count{m=\"x\"} 2\n");
}

TEST(MetricsTextTest, ServiceNumbersComeUnderAllNames) {
  ServiceStatus status{.state = ServiceState::kReady,
                       .n_running = 2,
                       .kv_tokens_total = 200,
                       .kv_tokens_used = 50,
                       .generated_tokens = 12345678901};
  status.workers = {{.id = WorkerId{1}, .host = "node1", .link_bytes_sent = 7}};
  auto families = ServiceFamilies(status, "tiny");
  for (MetricFamily& alias : AliasFamilies(families)) families.push_back(std::move(alias));
  const std::string text = MetricsText(families);
  EXPECT_THAT(text, HasSubstr("thermocline_requests_running{model_name=\"tiny\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"tiny\",engine=\"0\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("llamacpp:requests_processing{model_name=\"tiny\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"tiny\",engine=\"0\"} 0.25\n"));
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{model_name=\"tiny\",engine=\"0\"} "
                              "12345678901\n"));
  EXPECT_THAT(text, HasSubstr("thermocline_worker_link_bytes_total{worker=\"1\",host=\"node1\"} "
                              "7\n"));
}

TEST(MetricsTextTest, WhatThePlanExpectsStandsBesideWhatStepsTake) {
  ServiceStatus status;
  const auto text = [&] { return MetricsText(ServiceFamilies(status, "tiny")); };
  EXPECT_THAT(text(), ::testing::Not(HasSubstr("expected")));
  status.expected = {.n_sequences = 2,
                     .step_s = 0.5,
                     .n_streams = 4,
                     .tokens_per_s = 8,
                     .one_stream_tokens_per_s = 3,
                     .stage_s = {0.25, 0.125}};
  EXPECT_THAT(text(), HasSubstr("thermocline_stage_expected_step_seconds{stage=\"1\"} 0.125\n"));
  EXPECT_THAT(text(), HasSubstr("thermocline_expected_sequences 2\n"));
  EXPECT_THAT(text(), HasSubstr("thermocline_expected_step_seconds 0.5\n"));
  EXPECT_THAT(text(), HasSubstr("thermocline_expected_streams 4\n"));
  EXPECT_THAT(text(), HasSubstr("thermocline_expected_tokens_per_second 8\n"));
  EXPECT_THAT(text(), HasSubstr("thermocline_expected_one_stream_tokens_per_second 3\n"));
}

TEST(MetricsTextTest, StepTimesComePerStageAndFramesPerWorker) {
  ServiceStatus status{.stale_frames = 5};
  status.workers = {{.id = WorkerId{1},
                     .host = "a",
                     .stage = 1,
                     .steps_done = 9,
                     .last_step_us = 2000,
                     .step_us_total = 1500000,
                     .stale_frames = 3},
                    {.id = WorkerId{2}, .host = "b"}};  // spare
  const std::string text = MetricsText(ServiceFamilies(status, "tiny"));
  EXPECT_THAT(text, HasSubstr("thermocline_stage_step_seconds_total{stage=\"1\"} 1.5\n"));
  EXPECT_THAT(text, HasSubstr("thermocline_stage_last_step_seconds{stage=\"1\"} 0.002\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("{stage=\"-1\"}")));
  EXPECT_THAT(text, HasSubstr("thermocline_worker_steps_total{worker=\"1\",host=\"a\"} 9\n"));
  EXPECT_THAT(text,
              HasSubstr("thermocline_worker_stale_frames_total{worker=\"1\",host=\"a\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("thermocline_stale_frames_total{model_name=\"tiny\"} 5\n"));
}

TEST(MetricsTextTest, RequestHistogramsHaveTheirVllmTwins) {
  Metrics metrics;
  RequestMetrics request_metrics(metrics, "tiny");
  request_metrics.time_to_first_token_s.Observe(0.03);
  request_metrics.CountFinished("stop");
  const std::string text = MetricsText(AliasFamilies(metrics.Collect()));
  EXPECT_THAT(text, HasSubstr("vllm:time_to_first_token_seconds_bucket{model_name=\"tiny\","
                              "engine=\"0\",le=\"0.04\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("vllm:request_success_total{model_name=\"tiny\","
                              "finished_reason=\"stop\",engine=\"0\"} 1\n"));
}

}  // namespace
}  // namespace thermocline::coordinator::http
