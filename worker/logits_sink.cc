#include "worker/logits_sink.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/str.h"

namespace thermocline::worker {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// Writes one row at its place, so that a re-computed position overwrites itself.
bool WriteRow(std::FILE* file, int64_t position, std::span<const float> logits) {
  const auto offset = static_cast<off_t>(position) * static_cast<off_t>(logits.size_bytes());
  return fseeko(file, offset, SEEK_SET) == 0 &&
         std::fwrite(logits.data(), sizeof(float), logits.size(), file) == logits.size() &&
         std::fflush(file) == 0;
}

class LogitsFile final : public LogitsSink {
 public:
  explicit LogitsFile(File file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}

  void OnLogits(SeqId, int64_t position, std::span<const float> logits) override {
    if (file_ == nullptr || WriteRow(file_.get(), position, logits)) return;
    LogError("worker", Str("cannot write logits: ", path_, ": ", std::strerror(errno)));
    file_.reset();
  }

 private:
  File file_;
  const std::string path_;
};

class LogitsDirectory final : public LogitsSink {
 public:
  explicit LogitsDirectory(std::string directory) : directory_(std::move(directory)) {}

  void OnLogits(SeqId seq, int64_t position, std::span<const float> logits) override {
    auto& file = files_[seq];
    if (file == nullptr) {
      auto opened = MakeLogitsFile(Str(directory_, "/seq-", seq, ".f32"));
      if (!opened.ok()) {
        LogError("worker", opened.status().message());
        return;
      }
      file = std::move(*opened);
    }
    file->OnLogits(seq, position, logits);
  }

 private:
  const std::string directory_;
  std::unordered_map<SeqId, std::unique_ptr<LogitsSink>> files_;
};

}  // namespace

Result<std::unique_ptr<LogitsSink>> MakeLogitsFile(const std::string& path) {
  File file(std::fopen(path.c_str(), "wb"));
  if (file == nullptr) {
    return InvalidArgument(Str("cannot write logits: ", path, ": ", std::strerror(errno)));
  }
  return std::unique_ptr<LogitsSink>(std::make_unique<LogitsFile>(std::move(file), path));
}

Result<std::unique_ptr<LogitsSink>> MakeLogitsDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) {
    return InvalidArgument(
        Str("cannot make the directory for logits: ", directory, ": ", std::strerror(errno)));
  }
  return std::unique_ptr<LogitsSink>(std::make_unique<LogitsDirectory>(directory));
}

}  // namespace thermocline::worker
