#include "worker/device_hop.h"

#include <algorithm>

namespace thermocline::worker {

Status DeviceHop::Prepare() {
  if (on_host_.size() > 0) return OkStatus();
  TC_ASSIGN_OR_RETURN(on_device_, device_->Allocate(n_bytes_));
  TC_ASSIGN_OR_RETURN(on_host_, device_->AllocateHost(n_bytes_));
  return OkStatus();
}

uint64_t DeviceHop::Turn(uint64_t n_left) const {
  return std::clamp<uint64_t>(n_left, sizeof(float), on_host_.size());
}

Status DeviceHop::Out(uint64_t n_bytes) {
  uint64_t done = 0;
  do {
    device_->CopyToHost(on_device_.data(), on_host_.data(), Turn(n_bytes - done));
    done += Turn(n_bytes - done);
  } while (done < n_bytes);
  return device_->Synchronize();
}

Status DeviceHop::In(uint64_t n_bytes) {
  uint64_t done = 0;
  do {
    device_->CopyToDevice(on_host_.data(), on_device_.data(), Turn(n_bytes - done));
    done += Turn(n_bytes - done);
  } while (done < n_bytes);
  return device_->Synchronize();
}

}  // namespace thermocline::worker
