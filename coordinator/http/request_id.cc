#include "coordinator/http/request_id.h"

#include <sys/random.h>

#include <algorithm>

#include "base/check.h"

namespace thermocline::coordinator::http {

uint64_t RandomU64() {
  uint64_t value = 0;
  // At most 256 bytes cannot be interrupted once the pool is initialised (getrandom(2)).
  CHECK(getrandom(&value, sizeof(value), 0) == sizeof(value));
  return value;
}

std::string MakeId(std::string_view prefix) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string id(prefix);
  for (uint64_t bits : {RandomU64(), RandomU64()}) {
    for (int i = 0; i < 12; ++i, bits >>= 4) id.push_back(kDigits[bits & 15]);
  }
  return id;
}

std::string RequestIdOf(std::string_view from_client) {
  const bool usable = !from_client.empty() && from_client.size() <= kMaxRequestIdBytes &&
                      std::ranges::all_of(from_client, [](char c) { return c > ' ' && c < 127; });
  return usable ? std::string(from_client) : MakeId("req-");
}

}  // namespace thermocline::coordinator::http
