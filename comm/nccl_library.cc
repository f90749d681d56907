#include "comm/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "base/str.h"

namespace thermocline::comm {
namespace {

// "2.28.9" of 22809; of versions before 2.9, which had one digit less, 2804.
std::string VersionText(int version) {
  const int per_major = version < 10000 ? 1000 : 10000;
  return Str(version / per_major, ".", version % per_major / 100, ".", version % 100);
}

StatusCode CodeOf(int code) {
  switch (code) {
    case kNcclRemoteError:
      return StatusCode::kUnavailable;
    case kNcclInvalidArgument:
    case kNcclInvalidUsage:
      return StatusCode::kInvalidArgument;
    default:
      return StatusCode::kInternal;
  }
}

template <typename Fn>
Status Find(void* library, const char* name, Fn** function) {
  *function = reinterpret_cast<Fn*>(dlsym(library, name));
  if (*function != nullptr) return OkStatus();
  return Unavailable(
      Str("NCCL lacks ", name, ": install NCCL ", VersionText(kMinNcclVersion), " or later"));
}

}  // namespace

void NcclLibrary::CloseLibrary::operator()(void* library) const { dlclose(library); }

Result<std::unique_ptr<NcclLibrary>> NcclLibrary::Load(const NcclOptions& options) {
  constexpr int kKeepUsersChoice = 0;
  (void)setenv("NCCL_ALGO", "Ring", kKeepUsersChoice);
  if (options.one_host) (void)setenv("NCCL_SOCKET_IFNAME", "lo", kKeepUsersChoice);
  std::unique_ptr<NcclLibrary> nccl(new NcclLibrary);
  nccl->library_.reset(dlopen(options.library.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (nccl->library_ == nullptr) {
    return Unavailable(
        Str("no NCCL: ", dlerror(), ": install it (libnccl2), or use one GPU per stage"));
  }
  TC_RETURN_IF_ERROR(nccl->CheckVersion());
  TC_RETURN_IF_ERROR(nccl->FindAll());
  return nccl;
}

Status NcclLibrary::CheckVersion() {
  TC_RETURN_IF_ERROR(Find(library_.get(), "ncclGetVersion", &api_.version));
  if (api_.version(&version_) != kNcclSuccess) return Unavailable("NCCL tells no version");
  if (version_ >= kMinNcclVersion) return OkStatus();
  return Unavailable(Str("NCCL is too old: install ", VersionText(kMinNcclVersion),
                         " or later:", Kv("version", VersionText(version_))));
}

Status NcclLibrary::FindAll() {
  void* const library = library_.get();
  TC_RETURN_IF_ERROR(Find(library, "ncclGetErrorString", &api_.error_text));
  TC_RETURN_IF_ERROR(Find(library, "ncclGetLastError", &api_.last_error));
  TC_RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", &api_.make_id));
  TC_RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", &api_.join));
  TC_RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", &api_.async_error));
  TC_RETURN_IF_ERROR(Find(library, "ncclCommFinalize", &api_.finalize));
  TC_RETURN_IF_ERROR(Find(library, "ncclCommDestroy", &api_.destroy));
  TC_RETURN_IF_ERROR(Find(library, "ncclCommAbort", &api_.abort));
  TC_RETURN_IF_ERROR(Find(library, "ncclAllReduce", &api_.all_reduce));
  TC_RETURN_IF_ERROR(Find(library, "ncclBroadcast", &api_.broadcast));
  TC_RETURN_IF_ERROR(Find(library, "ncclSend", &api_.send));
  return Find(library, "ncclRecv", &api_.receive);
}

std::string NcclLibrary::version() const { return VersionText(version_); }

Result<std::string> NcclLibrary::MakeId() const {
  NcclId id{};
  TC_RETURN_IF_ERROR(ToStatus(api_.make_id(&id), "no place for GPUs to meet", nullptr));
  return std::string(id.bytes, sizeof id.bytes);
}

Status NcclLibrary::ToStatus(int code, std::string_view what, NcclHandle comm) const {
  if (code == kNcclSuccess) return OkStatus();
  const char* const text = api_.error_text(code);
  const char* const last = api_.last_error(comm);
  const bool has_last = last != nullptr && *last != '\0';
  return Status(CodeOf(code),
                Str("NCCL: ", what, ": ", text != nullptr ? text : "unknown error",
                    has_last ? Str(" (", Printable(last), ")") : "", Kv("code", code)));
}

}  // namespace thermocline::comm
