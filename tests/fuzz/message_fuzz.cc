// Any bytes decode to an error or to a message that encodes and decodes to itself.
#include <cstdint>
#include <cstdlib>

#include "proto/codec.h"

namespace {

using thermocline::proto::Decode;
using thermocline::proto::Encode;
using thermocline::proto::Message;

std::vector<std::byte> EncodeToBytes(const Message& message) {
  std::vector<std::byte> bytes;
  Encode(message, &bytes);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto first = Decode(std::as_bytes(std::span(data, size)));
  if (!first.ok()) return 0;
  // The input may spell a message in more than one way; our own spelling is a fixed point.
  const auto bytes = EncodeToBytes(*first);
  const auto second = Decode(bytes);
  if (!second.ok() || EncodeToBytes(*second) != bytes) std::abort();
  return 0;
}
