#include "worker/slice_store.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "comm/loopback.h"
#include "coordinator/weights_server.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "worker/shard.h"

namespace thermocline::worker {
namespace {

using testing::IsOk;

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kModelBytes = 3 * kMib + 500;
const std::vector<model::ByteRange> kAll = {{0, kModelBytes}};

std::vector<std::byte> ModelOf(int seed) {
  std::vector<std::byte> bytes(kModelBytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i * 7 + i / 977 + static_cast<size_t>(seed)) % 251);
  }
  return bytes;
}

// A cache folder, and a coordinator that serves one model to it.
class SliceStore : public ::testing::Test {
 protected:
  SliceStore()
      : folder_(testing::TempFile({}).path() + "-cache"),
        options_{folder_, std::string(32, 'a'), kModelBytes} {
    options_.reply_timeout = testing::kPatience;
  }
  ~SliceStore() override { std::filesystem::remove_all(folder_); }

  // What one run of a worker fetches over the wire.
  uint64_t FetchFrom(const std::vector<std::byte>& model,
                     const std::vector<model::ByteRange>& ranges) {
    comm::LoopbackMailboxHub hub;
    const auto reader = model::ReadFromMemory(model, "model");
    const coordinator::WeightsServer server(hub.MakeServer(), *reader, clock_);
    auto bulk = hub.Connect(comm::PeerId{7});
    auto cache = SliceCache::Open(options_);
    EXPECT_TRUE(bulk.ok() && cache.ok());
    EXPECT_THAT(cache->Fetch(ranges, **bulk, clock_, IgnoreProgress), IsOk());
    return cache->fetched_bytes();
  }

  std::vector<std::byte> Cached() const {
    std::ifstream file(folder_ + "/" + options_.fingerprint + "/model.gguf", std::ios::binary);
    std::vector<std::byte> bytes(kModelBytes);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }

  const SteadyClock clock_{};
  const std::string folder_;
  FetchOptions options_;
};

TEST_F(SliceStore, ARestartComparesAndFetchesNothing) {
  const auto model = ModelOf(1);
  EXPECT_EQ(FetchFrom(model, kAll), kModelBytes);
  EXPECT_EQ(Cached(), model);
  EXPECT_EQ(FetchFrom(model, kAll), 0u);
}

TEST_F(SliceStore, OnlyTheChunksOfTheRangesAreFetched) {
  EXPECT_EQ(FetchFrom(ModelOf(1), {{kMib + 10, kMib + 20}}), kMib);
  EXPECT_EQ(FetchFrom(ModelOf(1), {{0, 10}, {3 * kMib, 3 * kMib + 1}}), kMib + 500);
}

TEST_F(SliceStore, AChunkThatTheCoordinatorHasOtherwiseIsFetchedAgain) {
  auto model = ModelOf(1);
  FetchFrom(model, kAll);
  model[2 * kMib + 5] ^= std::byte{1};  // the same fingerprint: nothing else tells
  EXPECT_EQ(FetchFrom(model, kAll), kMib);
  EXPECT_EQ(Cached(), model);
}

TEST_F(SliceStore, ADamagedCacheIsRepaired) {
  const auto model = ModelOf(1);
  FetchFrom(model, kAll);
  {
    std::fstream file(folder_ + "/" + options_.fingerprint + "/model.gguf",
                      std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(kMib + 3);
    file.put('\0');
    file.put('\1');
  }
  EXPECT_EQ(FetchFrom(model, kAll), kMib);
  EXPECT_EQ(Cached(), model);
}

TEST_F(SliceStore, AnErrorOfTheProgressEndsAFetchThatGetsNoAnswer) {
  comm::LoopbackMailboxHub hub;
  const auto silent = hub.MakeServer();
  auto bulk = hub.Connect(comm::PeerId{7});
  auto cache = SliceCache::Open(options_);
  ASSERT_TRUE(bulk.ok() && cache.ok());
  int n_calls = 0;
  const auto stop_soon = [&](uint64_t, uint64_t) {
    return ++n_calls > 5 ? Aborted("enough") : OkStatus();
  };
  EXPECT_EQ(cache->Fetch(kAll, **bulk, clock_, stop_soon).code(), StatusCode::kAborted);
}

}  // namespace
}  // namespace thermocline::worker
