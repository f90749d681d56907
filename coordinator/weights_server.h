// Serves byte ranges of the model file to workers that do not have it, over a mailbox of its own so
// that weights never delay a heartbeat.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/mailbox.h"
#include "model/range_reader.h"

namespace thermocline::coordinator {

// Owns the bulk mailbox and one thread; both end with it. The reader outlives it.
class WeightsServer {
 public:
  WeightsServer(std::unique_ptr<comm::Mailbox> mailbox, const model::RangeReader& reader,
                const Clock& clock);
  ~WeightsServer();

  // Where workers connect, joined by commas.
  std::string endpoints() const;
  uint64_t bytes_served() const { return bytes_served_; }

 private:
  void Serve();
  void Answer(const comm::Received& request);
  void Refuse(comm::PeerId peer, uint64_t offset_bytes, const Status& status);

  const std::unique_ptr<comm::Mailbox> mailbox_;
  const model::RangeReader& reader_;
  const Clock& clock_;
  std::vector<std::byte> chunk_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> bytes_served_{0};
  std::thread thread_;
};

}  // namespace thermocline::coordinator
