#include "worker/device_claim.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/str.h"

namespace thermocline::worker {

namespace {

// Workers that have a GPU of their own number take it meanwhile, so that who gets one does not
// depend on who comes first: ranks of a job start within a fraction of it.
constexpr Duration kOwnersFirst = std::chrono::seconds(1);

}  // namespace

DeviceClaim::DeviceClaim(DeviceClaim&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

DeviceClaim::~DeviceClaim() {
  if (fd_ >= 0) close(fd_);
}

Result<DeviceClaim> DeviceClaim::Take(const std::string& name) {
  // Abstract: the path begins with a 0 byte. Users do not keep one another's names.
  const std::string path = Str("thermocline-", getuid(), "-", name);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t n = std::min(path.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, path.data(), n);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Unavailable(Str("cannot claim a GPU: ", std::strerror(errno)));
  DeviceClaim claim(fd);
  const auto n_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), n_bytes) == 0) return claim;
  if (errno == EADDRINUSE) return Unavailable("another worker has it");
  return Unavailable(Str("cannot claim a GPU: ", std::strerror(errno)));
}

std::vector<int> OrdinalsToTry(int index, int n_visible) {
  if (index < n_visible) return {index};
  std::vector<int> all(static_cast<size_t>(std::max(0, n_visible)));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

Result<ClaimedDevice> ClaimDevice(kernels::DeviceChoice choice,
                                  const kernels::CpuDeviceOptions& cpu) {
  using Kind = kernels::DeviceChoice::Kind;
  const auto gpus =
      choice.kind == Kind::kCpu ? Unavailable("not asked for") : kernels::CudaDeviceIds();
  if (!gpus.ok()) {  // whoever wants one is told why
    TC_ASSIGN_OR_RETURN(auto chosen, kernels::MakeDevice(choice, cpu));
    return ClaimedDevice{std::move(chosen), std::nullopt, choice.ordinal};
  }
  const int index = choice.ordinal;
  const auto n_visible = static_cast<int>(gpus->size());
  if (index >= n_visible) std::this_thread::sleep_for(kOwnersFirst);
  std::string reason = "none is there";
  for (const int ordinal : OrdinalsToTry(index, n_visible)) {
    auto claim = DeviceClaim::Take((*gpus)[static_cast<size_t>(ordinal)]);
    reason = claim.status().message();
    if (!claim.ok()) continue;
    choice.ordinal = ordinal;
    TC_ASSIGN_OR_RETURN(auto chosen, kernels::MakeDevice(choice, cpu));
    return ClaimedDevice{std::move(chosen), *std::move(claim), ordinal};
  }
  const std::string why = Str("no GPU is left for this worker:", Kv("worker_of_host", index),
                              Kv("seen", n_visible), ": ", reason);
  if (choice.kind == Kind::kCuda) return Unavailable(why);
  TC_ASSIGN_OR_RETURN(auto chosen, kernels::MakeDevice({.kind = Kind::kCpu}, cpu));
  chosen.note = Str(why, ": computing on ", chosen.device->name());
  return ClaimedDevice{std::move(chosen), std::nullopt, choice.ordinal};
}

}  // namespace thermocline::worker
