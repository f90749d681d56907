// Messages <-> bytes (Protobuf inside; nobody else sees it).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"

namespace thermocline::proto {

// Bounds of what Decode accepts, checked before a struct of ours is filled. A message is smaller
// than comm::kMaxHeaderBytes, because a StepBatch travels as the header of a frame.
inline constexpr size_t kMaxMessageBytes = 4u << 20;
inline constexpr int kMaxStepTokens = 8192;    // rows of one step; an entry has at least one
inline constexpr int kMaxReleased = 1 << 16;   // sequences that can end between two steps
inline constexpr size_t kMaxTextBytes = 4096;  // PATH_MAX, the longest text of any field
inline constexpr int kMaxEndIds = 1024;        // a vocabulary has a handful
// Of one message of spans: kinds of ops, threads and links of a worker, and 64 KiB of spans or so.
inline constexpr int kMaxTraceNames = 512;
inline constexpr int kMaxTraceTracks = 1024;
inline constexpr int kMaxTraceSpans = 8192;
// Of a clock that counts from when its machine started: 36 years. Sums of four such times do not
// overflow.
inline constexpr int64_t kMaxClock_ns = int64_t{1} << 60;
// Steps that a worker keeps until it comes to them, whatever stages are behind it. Whoever sends
// them has at most kMaxStepsInFlight unanswered: one place is for a step that only releases, which
// nobody answers.
inline constexpr int kMaxQueuedSteps = 64;
inline constexpr int kMaxStepsInFlight = kMaxQueuedSteps - 1;
inline constexpr int kMaxBannedIds = 4096;
inline constexpr int64_t kMaxPosition = 1 << 24;  // the longest published context is 10 M tokens

// `out` is cleared first and its capacity is kept. Free texts (reason, note, failure) are cut to
// kMaxTextBytes; other fields are taken as they are.
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

// Of frames between workers: the message, or nothing where it is of an epoch before `epoch`,
// whatever its kind: it was on its way when the plan changed, and its ends had other parts then.
template <typename T>
Result<std::optional<T>> DecodeOfEpoch(std::span<const std::byte> bytes, Epoch epoch) {
  TC_ASSIGN_OR_RETURN(Message message, Decode(bytes));
  const auto* const batch = std::get_if<StepBatch>(&message);
  const auto* const part = std::get_if<Part>(&message);
  const Epoch sent = batch != nullptr ? batch->epoch : part != nullptr ? part->epoch : epoch;
  if (sent < epoch) return std::optional<T>();
  if (T* wanted = std::get_if<T>(&message)) return std::optional<T>(std::move(*wanted));
  return DataLoss("message of another kind than expected here");
}

// A survey of all links takes two seconds; nobody probes for longer than a minute.
inline constexpr uint32_t kMaxProbeBudgetUs = 60'000'000;

}  // namespace thermocline::proto
