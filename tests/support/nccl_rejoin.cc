#include "tests/support/nccl_rejoin.h"

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/group.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"

namespace thermocline::testing {
namespace {

using comm::Gpu;
using comm::Group;

constexpr size_t kElems = 8192;  // a row of sums of a large model
constexpr size_t kBytes = kElems * sizeof(double);

// Values of a GPU, and the stream on which they are.
struct OnGpu {
  Gpu::Stream stream;
  Gpu::Memory memory;
  std::span<double> values() const { return {static_cast<double*>(memory.get()), kElems}; }
};

// The values after a sum over the group's one member.
Status ExpectSumKeeps(const std::vector<double>& values, const Gpu& gpu, const OnGpu& on_gpu,
                      Group* group) {
  std::vector<double> sums(kElems);
  comm::GpuStream const stream = on_gpu.stream.get();
  TC_RETURN_IF_ERROR(gpu.Copy(on_gpu.memory.get(), values.data(), kBytes, stream));
  TC_RETURN_IF_ERROR(group->Sum(on_gpu.values(), stream, In(kPatience)));
  TC_RETURN_IF_ERROR(gpu.Copy(sums.data(), on_gpu.memory.get(), kBytes, stream));
  TC_RETURN_IF_ERROR(group->Await(stream, In(kPatience)));
  EXPECT_EQ(sums, values);
  return OkStatus();
}

// Holds work for as long as it lives.
class HeldWork {
 public:
  explicit HeldWork(const HoldsWorkFn& holds) : holds_(holds) { holds_(true); }
  ~HeldWork() { holds_(false); }
  HeldWork(const HeldWork&) = delete;
  HeldWork& operator=(const HeldWork&) = delete;

 private:
  const HoldsWorkFn& holds_;
};

// With work that may be under way, after which nothing is to be had of the group.
Status ExpectAborts(const OnGpu& on_gpu, const HoldsWorkFn& holds_work, Group* group) {
  comm::GpuStream const stream = on_gpu.stream.get();
  const Status why = Unavailable("another stage's GPU is lost");
  {
    const HeldWork held(holds_work);
    TC_RETURN_IF_ERROR(group->Sum(on_gpu.values(), stream, In(kPatience)));
    EXPECT_EQ(group->Abort(why).message(), why.message());
  }
  EXPECT_EQ(group->Check().message(), why.message());
  EXPECT_EQ(group->Sum(on_gpu.values(), stream, In(kPatience)).message(), why.message());
  EXPECT_EQ(group->Await(stream, In(kPatience)).message(), why.message());
  return OkStatus();
}

Status AwaitStream(const Gpu& gpu, const OnGpu& on_gpu) {
  TC_ASSIGN_OR_RETURN(const Gpu::Event event, gpu.MakeEvent());
  TC_RETURN_IF_ERROR(gpu.Record(event, on_gpu.stream.get()));
  return gpu.Await(event, In(kPatience));
}

Status Rejoin(const comm::NcclLibrary& nccl, const Gpu& gpu, const HoldsWorkFn& holds_work) {
  OnGpu on_gpu;
  TC_ASSIGN_OR_RETURN(on_gpu.stream, gpu.MakeStream());
  TC_ASSIGN_OR_RETURN(on_gpu.memory, gpu.Allocate(kBytes));
  std::string last_id;
  for (int epoch = 1; epoch <= kRejoins; ++epoch) {
    TC_ASSIGN_OR_RETURN(const std::string id, nccl.MakeId());
    EXPECT_NE(id, last_id);
    TC_ASSIGN_OR_RETURN(std::unique_ptr<Group> group,
                        comm::MakeNcclGroup(nccl, gpu, {id, 0, 1}, In(kPatience)));
    const std::vector<double> values(kElems, 1.5 * epoch);
    TC_RETURN_IF_ERROR(ExpectSumKeeps(values, gpu, on_gpu, group.get()));
    TC_RETURN_IF_ERROR(ExpectAborts(on_gpu, holds_work, group.get()));
    TC_RETURN_IF_ERROR(AwaitStream(gpu, on_gpu));
    last_id = id;
  }
  return OkStatus();
}

}  // namespace

void ExpectRejoinsAfterAborts(const comm::NcclLibrary& nccl, const Gpu& gpu,
                              const HoldsWorkFn& holds_work) {
  const Status status = Rejoin(nccl, gpu, holds_work);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace thermocline::testing
