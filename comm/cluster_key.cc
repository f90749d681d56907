#include "comm/cluster_key.h"

#include <sodium.h>
#include <zmq.h>

#include "base/check.h"
#include "base/str.h"

namespace thermocline::comm {
namespace {

constexpr size_t kKeyBytes = 32;
// Z85 writes 4 bytes as 5 characters.
constexpr size_t kKeyChars = 40;
constexpr std::string_view kZ85Alphabet =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

// `bytes` as 40 characters; libzmq also writes the terminating zero.
std::string EncodeZ85(const std::array<uint8_t, kKeyBytes>& bytes) {
  std::array<char, kKeyChars + 1> text{};
  CHECK(zmq_z85_encode(text.data(), bytes.data(), bytes.size()) != nullptr);
  return std::string(text.data(), kKeyChars);
}

// The role keeps the two secrets apart: a client's secret tells nothing about the server's.
ClusterKey::CurvePair DerivePair(const std::array<uint8_t, kKeyBytes>& seed,
                                 std::string_view role) {
  std::array<uint8_t, kKeyBytes> secret{};
  CHECK(sodium_init() >= 0);
  CHECK(crypto_generichash(secret.data(), secret.size(),
                           reinterpret_cast<const unsigned char*>(role.data()), role.size(),
                           seed.data(), seed.size()) == 0);
  ClusterKey::CurvePair pair;
  pair.secret_key = EncodeZ85(secret);
  std::array<char, kKeyChars + 1> public_key{};
  CHECK(zmq_curve_public(public_key.data(), pair.secret_key.c_str()) == 0);
  pair.public_key.assign(public_key.data(), kKeyChars);
  sodium_memzero(secret.data(), secret.size());
  return pair;
}

}  // namespace

ClusterKey ClusterKey::Generate() {
  CHECK(sodium_init() >= 0);
  ClusterKey key;
  randombytes_buf(key.seed_.data(), key.seed_.size());
  return key;
}

Result<ClusterKey> ClusterKey::Parse(std::string_view text) {
  if (text.size() != kKeyChars) {
    return InvalidArgument(Str("cluster key has a wrong length:", Kv("chars", text.size()),
                               Kv("expected", kKeyChars)));
  }
  // libzmq would refuse it too, but cannot say where.
  if (const size_t bad = text.find_first_not_of(kZ85Alphabet); bad != std::string_view::npos) {
    return InvalidArgument(Str("cluster key has a character outside Z85:", Kv("position", bad)));
  }
  ClusterKey key;
  if (zmq_z85_decode(key.seed_.data(), std::string(text).c_str()) == nullptr) {
    return InvalidArgument("cluster key is not Z85: a group of five characters is over 2^32");
  }
  return key;
}

std::string ClusterKey::ToString() const { return EncodeZ85(seed_); }

ClusterKey::CurvePair ClusterKey::Server() const { return DerivePair(seed_, "thermocline server"); }

ClusterKey::CurvePair ClusterKey::Client() const { return DerivePair(seed_, "thermocline client"); }

}  // namespace thermocline::comm
