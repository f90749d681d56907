// The HTTP server over a scripted service: prints its URL and serves until its input ends.
#include <cstdio>
#include <iostream>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "coordinator/http/server.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_generation_service.h"

namespace {

namespace http = thermocline::coordinator::http;

constexpr char kReply[] = "The little fox walked over the hill and found a warm house.";

}  // namespace

int main() {
  thermocline::testing::FakeGenerationService service;
  service.SetReplyText(kReply);
  service.SetPace(std::chrono::milliseconds(1));
  const thermocline::testing::ByteTokenizer tokenizer;
  const thermocline::SteadyClock clock;
  thermocline::Metrics metrics;
  const auto source = thermocline::model::ChatTemplate::BuiltIn("chatml");
  if (!source.ok()) return 1;
  const auto chat_template = thermocline::model::ChatTemplate::Parse(*source);
  if (!chat_template.ok()) return 1;
  auto server = http::HttpServer::Start({.port = 0, .model_name = "fox"}, {},
                                        {service, tokenizer, &*chat_template, clock, metrics});
  if (!server.ok()) {
    std::cerr << server.status() << "\n";
    return 1;
  }
  std::cout << "http://127.0.0.1:" << (*server)->port() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  return 0;
}
