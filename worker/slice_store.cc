#include "worker/slice_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "base/hash.h"
#include "base/str.h"
#include "base/units.h"
#include "proto/bulk.h"

namespace thermocline::worker {
namespace {

constexpr uint64_t kChunkBytes = proto::kBulkChunkBytes;
// How often a wait for the coordinator asks whether it should go on.
constexpr Duration kPollInterval = std::chrono::milliseconds(100);
// Requests on the way at once: hides the round trip without hogging the coordinator.
constexpr size_t kRequestsInFlight = 8;
// One record of the ledger: chunk number and checksum of its bytes.
struct LedgerRecord {
  uint64_t chunk = 0;
  uint64_t checksum = 0;
};

std::string ErrnoText() { return std::strerror(errno); }

bool IsFingerprint(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// An open file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

bool ReadFully(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n <= 0) return false;
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return true;
}

bool WriteFully(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return true;
}

}  // namespace

struct SliceCache::State {
  State(FetchOptions options_in, std::string path_in, int data_fd, int ledger_fd)
      : options(std::move(options_in)),
        path(std::move(path_in)),
        data(data_fd),
        ledger(ledger_fd) {}

  uint64_t ChunkLength(uint64_t chunk) const {
    return std::min(kChunkBytes, options.model_bytes - chunk * kChunkBytes);
  }

  void LoadLedger() {
    LedgerRecord record;
    for (uint64_t at = 0;; at += sizeof record) {
      if (!ReadFully(ledger.get(), at, std::as_writable_bytes(std::span(&record, 1)))) break;
      if (record.chunk < DivCeil(options.model_bytes, kChunkBytes)) {
        present[record.chunk] = record.checksum;
      }
    }
  }

  // The checksum of the cached bytes of a chunk, if they are there and still what they were.
  std::optional<uint64_t> CachedChecksum(uint64_t chunk) {
    const auto found = present.find(chunk);
    if (found == present.end()) return std::nullopt;
    std::vector<std::byte> bytes(ChunkLength(chunk));
    if (!ReadFully(data.get(), chunk * kChunkBytes, bytes)) return std::nullopt;
    if (Checksum64(bytes) != found->second) return std::nullopt;
    return found->second;
  }

  Status Store(uint64_t chunk, std::span<const std::byte> bytes, uint64_t checksum) {
    const LedgerRecord record{chunk, checksum};
    if (!WriteFully(data.get(), chunk * kChunkBytes, bytes) ||
        !WriteFully(ledger.get(), 0, std::as_bytes(std::span(&record, 1)))) {
      return ResourceExhausted(Str("cannot write the weight cache: ", path, ": ", ErrnoText()));
    }
    present[chunk] = checksum;
    fetched_bytes += bytes.size();
    return OkStatus();
  }

  const FetchOptions options;
  const std::string path;
  Descriptor data;
  Descriptor ledger;  // opened for appending, since workers of one host may share the cache
  std::map<uint64_t, uint64_t> present;  // chunk -> checksum
  uint64_t fetched_bytes = 0;
};

SliceCache::SliceCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
SliceCache::~SliceCache() = default;
SliceCache::SliceCache(SliceCache&&) noexcept = default;
SliceCache& SliceCache::operator=(SliceCache&&) noexcept = default;
uint64_t SliceCache::fetched_bytes() const { return state_->fetched_bytes; }
const std::string& SliceCache::path() const { return state_->path; }

Result<SliceCache> SliceCache::Open(const FetchOptions& options) {
  if (!IsFingerprint(options.fingerprint)) {
    return InvalidArgument(
        Str("not a model fingerprint: \"", Printable(options.fingerprint), "\""));
  }
  const std::string directory = options.cache_dir + "/" + options.fingerprint;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string path = directory + "/model.gguf";
  const int data_fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int ledger_fd =
      open((directory + "/ledger").c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  auto state = std::make_unique<State>(options, path, data_fd, ledger_fd);
  if (data_fd < 0 || ledger_fd < 0 ||
      ftruncate(data_fd, static_cast<off_t>(options.model_bytes)) != 0) {
    return Unavailable(Str("cannot use the weight cache: ", directory, ": ", ErrnoText()));
  }
  state->LoadLedger();
  return SliceCache(std::move(state));
}

namespace {

std::vector<uint64_t> ChunksOf(const std::vector<model::ByteRange>& ranges) {
  std::vector<uint64_t> chunks;
  for (const model::ByteRange& range : ranges) {
    for (uint64_t c = range.begin / kChunkBytes; c < DivCeil(range.end, kChunkBytes); ++c) {
      chunks.push_back(c);
    }
  }
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  return chunks;
}

// A chunk to be fetched, or only compared when the cache has it.
struct Wanted {
  uint64_t chunk = 0;
  uint64_t length_bytes = 0;
  std::optional<uint64_t> cached_checksum;
};

// One run of Fetch: what is still to be asked for, and what is on its way.
class FetchRun {
 public:
  // `on_wait` is called while nothing comes; an error ends the wait.
  FetchRun(comm::Mailbox& bulk, const Clock& clock, Duration reply_timeout,
           std::function<Status()> on_wait)
      : bulk_(bulk), clock_(clock), reply_timeout_(reply_timeout), on_wait_(std::move(on_wait)) {}

  void Want(const Wanted& wanted) { missing_.push_back(wanted); }
  bool done() const { return missing_.empty() && asked_.empty(); }

  // A chunk that was wanted: its bytes with their checksum verified, or none when the cached ones
  // are right.
  struct Settled {
    uint64_t chunk = 0;
    uint64_t checksum = 0;
    std::optional<std::vector<std::byte>> bytes;
  };
  Result<Settled> Next() {
    while (true) {
      TC_RETURN_IF_ERROR(AskForMore());
      TC_ASSIGN_OR_RETURN(comm::Frame frame, AwaitReply());
      TC_ASSIGN_OR_RETURN(const proto::BulkReply reply,
                          proto::DecodeBulkReply(frame.header, frame.payload));
      TC_ASSIGN_OR_RETURN(const Wanted asked, TakeAsked(reply));
      if (!reply.checksum_only) {
        return Settled{asked.chunk, reply.checksum, std::move(frame.payload)};
      }
      if (reply.checksum == asked.cached_checksum) {
        return Settled{asked.chunk, reply.checksum, std::nullopt};
      }
      missing_.push_front({asked.chunk, asked.length_bytes, std::nullopt});
    }
  }

 private:
  Status AskForMore() {
    while (!missing_.empty() && asked_.size() < kRequestsInFlight) {
      const Wanted wanted = missing_.front();
      missing_.pop_front();
      asked_[wanted.chunk] = wanted;
      const auto header = proto::EncodeBulkRequest({wanted.chunk * kChunkBytes,
                                                    static_cast<uint32_t>(wanted.length_bytes),
                                                    wanted.cached_checksum.has_value()});
      TC_RETURN_IF_ERROR(bulk_.Send(comm::kServerPeer, {header, {}}));
    }
    return OkStatus();
  }

  Result<comm::Frame> AwaitReply() {
    const TimePoint until = clock_.Now() + reply_timeout_;
    while (clock_.Now() < until) {
      TC_ASSIGN_OR_RETURN(auto received, bulk_.Receive(clock_.Now() + kPollInterval));
      if (received) return std::move(received->frame);
      TC_RETURN_IF_ERROR(on_wait_());
    }
    return DeadlineExceeded(
        Str("the coordinator sent no weights for ", Seconds(reply_timeout_), " s"));
  }

  Result<Wanted> TakeAsked(const proto::BulkReply& reply) {
    const auto found = asked_.find(reply.offset_bytes / kChunkBytes);
    if (found == asked_.end() || found->second.length_bytes != reply.length_bytes ||
        found->second.cached_checksum.has_value() != reply.checksum_only) {
      return DataLoss(
          Str("the coordinator sent a range nobody asked for:", Kv("offset", reply.offset_bytes)));
    }
    const Wanted asked = found->second;
    asked_.erase(found);
    return asked;
  }

  comm::Mailbox& bulk_;
  const Clock& clock_;
  const Duration reply_timeout_;
  const std::function<Status()> on_wait_;
  std::deque<Wanted> missing_;
  std::map<uint64_t, Wanted> asked_;  // by chunk
};

}  // namespace

Status SliceCache::Fetch(const std::vector<model::ByteRange>& ranges, comm::Mailbox& bulk,
                         const Clock& clock, const ProgressFn& on_progress) {
  const std::vector<uint64_t> chunks = ChunksOf(ranges);
  uint64_t bytes_total = 0, bytes_done = 0;
  for (const uint64_t chunk : chunks) bytes_total += state_->ChunkLength(chunk);
  const auto report = [&] { return on_progress(bytes_done, bytes_total); };
  FetchRun run(bulk, clock, state_->options.reply_timeout, report);
  for (const uint64_t chunk : chunks) {
    run.Want({chunk, state_->ChunkLength(chunk), state_->CachedChecksum(chunk)});
    TC_RETURN_IF_ERROR(report());
  }
  while (!run.done()) {
    TC_ASSIGN_OR_RETURN(const FetchRun::Settled settled, run.Next());
    if (settled.bytes) {
      TC_RETURN_IF_ERROR(state_->Store(settled.chunk, *settled.bytes, settled.checksum));
    }
    bytes_done += state_->ChunkLength(settled.chunk);
    TC_RETURN_IF_ERROR(report());
  }
  return OkStatus();
}

}  // namespace thermocline::worker
