#include "comm/endpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/frames.h"

namespace thermocline::comm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::thermocline::testing::In;

TEST(Endpoints, ParsesAndPrints) {
  for (const char* text : {"tcp://127.0.0.1:40123", "tcp://node3:1", "tcp://[::1]:65535",
                           "tcp://0.0.0.0:*", "tcp://*:8080"}) {
    const auto parsed = ParseTcpEndpoint(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->ToString(), text);
  }
}

TEST(Endpoints, RefusesMalformedAndNamesThem) {
  for (const char* text :
       {"", "tcp://", "tcp://host", "tcp://host:", "tcp://:80", "tcp://host:0", "tcp://host:65536",
        "tcp://host:8x", "ipc:///tmp/x", "inproc://x", "host:80", "tcp://::1:80", "tcp://[]:80"}) {
    const auto parsed = ParseTcpEndpoint(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(parsed.status().message(), HasSubstr(text));
  }
}

TEST(Endpoints, AnAddressIsReachedAsItself) {
  EXPECT_THAT(ReachableEndpoints({"127.0.0.1", "4000"}), ElementsAre("tcp://127.0.0.1:4000"));
}

TEST(Endpoints, AWildcardIsEachAddressAndLoopbackLast) {
  const auto endpoints = ReachableEndpoints({"0.0.0.0", "4000"});
  ASSERT_FALSE(endpoints.empty());
  EXPECT_EQ(endpoints.back(), "tcp://127.0.0.1:4000");
  for (const std::string& endpoint : endpoints) {
    EXPECT_THAT(endpoint, HasSubstr(":4000"));
    EXPECT_EQ(endpoint.find('['), std::string::npos) << "no IPv6 socket listens there";
  }
}

TEST(Endpoints, ListsJoinAndSplit) {
  EXPECT_THAT(SplitEndpoints("a,b"), ElementsAre("a", "b"));
  EXPECT_THAT(SplitEndpoints("a"), ElementsAre("a"));
  EXPECT_THAT(SplitEndpoints(",a,"), ElementsAre("a"));
  EXPECT_THAT(SplitEndpoints(""), IsEmpty());
  EXPECT_EQ(JoinEndpoints({"a", "b"}), "a,b");
}

TEST(Endpoints, ProbeNamesTheCause) {
  // Port 1 (tcpmux) is served by nobody.
  const Status refused = ProbeTcp({"127.0.0.1", "1"}, In(std::chrono::seconds(5)));
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_EQ(refused.message(), "refused");
}

}  // namespace
}  // namespace thermocline::comm
