#include "comm/cluster_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.h>

namespace thermocline::comm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The public key that belongs to a secret one.
std::string PublicOf(const std::string& secret) {
  char text[41] = {};
  EXPECT_EQ(zmq_curve_public(text, secret.c_str()), 0);
  return text;
}

TEST(ClusterKey, TextAndBack) {
  const ClusterKey key = ClusterKey::Generate();
  const std::string text = key.ToString();
  EXPECT_EQ(text.size(), 40u);
  const auto parsed = ClusterKey::Parse(text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->ToString(), text);
  EXPECT_EQ(parsed->Server().secret_key, key.Server().secret_key);
}

TEST(ClusterKey, GeneratedKeysDiffer) {
  EXPECT_NE(ClusterKey::Generate().ToString(), ClusterKey::Generate().ToString());
}

TEST(ClusterKey, PairsAreCurvePairsOfTheirOwn) {
  const ClusterKey key = ClusterKey::Generate();
  EXPECT_EQ(key.Server().public_key, PublicOf(key.Server().secret_key));
  EXPECT_EQ(key.Client().public_key, PublicOf(key.Client().secret_key));
  EXPECT_NE(key.Server().secret_key, key.Client().secret_key);
  EXPECT_NE(key.Server().secret_key, key.ToString());
}

// A worker of one version joins a coordinator of another: the derivation is part of the protocol.
// BLAKE2b-256 keyed by 32 zero bytes, as computed by Python's hashlib.
TEST(ClusterKey, DerivationIsStable) {
  const ClusterKey zero;
  EXPECT_EQ(zero.Server().secret_key, "v/Ay[&^!KJ@}E>E/!:K{gGQ=%Y&X<W-Zl{<.qc#U");
  EXPECT_EQ(zero.Client().secret_key, "La6Y}3s/u6a<!NEQk]Y+L:dI!Eb@Jov.Ax]G(R2t");
}

TEST(ClusterKey, RefusesOtherTextWithoutRepeatingIt) {
  const std::string good = ClusterKey::Generate().ToString();
  std::string bad_character = good;
  bad_character[7] = '~';
  // "#####" is 85^5 - 1, beyond 32 bits.
  const std::string overflow = "#####" + good.substr(5);
  for (const std::string& text : {std::string(), good.substr(1), good + "0", bad_character,
                                  overflow, std::string(40, '\0'), std::string(40, '\xff')}) {
    const auto parsed = ClusterKey::Parse(text);
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(parsed.status().message(), Not(HasSubstr(good.substr(10, 10))));
  }
}

}  // namespace
}  // namespace thermocline::comm
