// Any bytes as a file of activation counts: zip, pickle, npy.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "model/config.h"
#include "model/counts_file.h"
#include "model/torch_pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline::model;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto counts = ReadCounts(*ReadFromMemory(bytes, "fuzz"));
  CHECK(!counts.ok() || (!counts->empty() && counts->size() <= size_t{kMaxFf}));
  // The pickle alone, which a fuzzer would seldom reach through a zip archive.
  const auto tensor = ReadTorchPickle(bytes);
  CHECK(!tensor.ok() || tensor->shape.size() <= kMaxPickleValues);
  return 0;
}
