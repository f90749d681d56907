// Messages <-> bytes (Protobuf inside; nobody else sees it).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"

namespace thermocline::proto {

// Appends nothing else: `out` is cleared first and its capacity is kept.
void Encode(const Message& message, std::vector<std::byte>* out);

// kDataLoss names the field that is malformed or over its limit. Unknown fields are ignored.
Result<Message> Decode(std::span<const std::byte> bytes);

// Decode for a place where only one kind makes sense; another kind is kDataLoss.
template <typename T>
Result<T> DecodeAs(std::span<const std::byte> bytes) {
  TC_ASSIGN_OR_RETURN(Message message, Decode(bytes));
  if (T* wanted = std::get_if<T>(&message)) return std::move(*wanted);
  return DataLoss("message of another kind than expected here");
}

}  // namespace thermocline::proto
