#include "tests/support/worker_talk.h"

#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/range_reader.h"

namespace thermocline::testing {

void SetModel(const std::string& path, proto::AssignPlan* message) {
  const auto reader = model::OpenMappedFile(path);
  const auto gguf = model::GgufFile::Parse(**reader);
  message->model_path = path;
  message->model_fingerprint = *model::FingerprintOf(**reader, *gguf);
  message->model_bytes = (*reader)->size_bytes();
  message->header_bytes = gguf->header_bytes();
}

}  // namespace thermocline::testing
