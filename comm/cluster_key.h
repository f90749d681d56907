// The cluster's one secret, from which both CURVE key pairs are derived: whoever holds it may join.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::comm {

// 32 random bytes, written as 40 characters of Z85 (ZeroMQ RFC 32).
class ClusterKey {
 public:
  ClusterKey() = default;
  static ClusterKey Generate();
  // kInvalidArgument when `text` is not 40 Z85 characters. The text is not repeated in the message.
  static Result<ClusterKey> Parse(std::string_view text);
  std::string ToString() const;

  // Key pairs as Z85 text: secret = BLAKE2b-256(seed, role), public = its Curve25519 point.
  struct CurvePair {
    std::string public_key;
    std::string secret_key;
  };
  CurvePair Server() const;
  CurvePair Client() const;

 private:
  std::array<uint8_t, 32> seed_{};
};

}  // namespace thermocline::comm
