#include "base/queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/patience.h"

namespace thermocline {
namespace {

constexpr std::chrono::nanoseconds kNoWait{0};
// Only a lost wake-up reaches it.
constexpr Duration kLong = testing::kPatience;

TEST(BoundedQueue, FirstInFirstOut) {
  BoundedQueue<int> queue(3);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.Pop(kNoWait), 1);
  EXPECT_EQ(queue.Pop(kNoWait), 2);
  EXPECT_EQ(queue.Pop(kNoWait), std::nullopt);
}

TEST(BoundedQueue, RefusesWhenFull) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_FALSE(queue.Push(3, std::chrono::milliseconds(1)));
  EXPECT_EQ(queue.Pop(kNoWait), 1);
  EXPECT_TRUE(queue.TryPush(3));
}

TEST(BoundedQueue, ClosedDrainsAndRefuses) {
  BoundedQueue<std::unique_ptr<int>> queue(2);
  EXPECT_TRUE(queue.TryPush(std::make_unique<int>(5)));
  queue.Close();
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.TryPush(std::make_unique<int>(6)));
  const auto item = queue.Pop(kLong);
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(**item, 5);
  EXPECT_FALSE(queue.Pop(kLong).has_value());
}

TEST(BoundedQueue, CloseWakesThoseWhoWait) {
  BoundedQueue<int> empty(1), full(1);
  EXPECT_TRUE(full.TryPush(1));
  std::thread popper([&] { EXPECT_EQ(empty.Pop(kLong), std::nullopt); });
  std::thread pusher([&] { EXPECT_FALSE(full.Push(2, kLong)); });
  empty.Close();
  full.Close();
  popper.join();
  pusher.join();
}

// Several producers and consumers through one slot: every item comes out once, those of one
// producer in order.
TEST(BoundedQueue, NothingIsLostBetweenThreads) {
  constexpr int kProducers = 3, kItems = 2000;
  BoundedQueue<int> queue(1);
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kItems; ++i) EXPECT_TRUE(queue.Push(p * kItems + i, kLong));
    });
  }
  std::vector<int> taken[2];
  std::vector<std::thread> consumers;
  for (auto& mine : taken) {
    consumers.emplace_back([&queue, &mine] {
      while (const auto item = queue.Pop(kLong)) mine.push_back(*item);
    });
  }
  for (auto& thread : producers) thread.join();
  queue.Close();
  for (auto& thread : consumers) thread.join();
  std::vector<bool> seen(kProducers * kItems);
  for (const auto& mine : taken) {
    int last[kProducers] = {-1, -1, -1};
    for (const int item : mine) {
      EXPECT_FALSE(seen[static_cast<size_t>(item)]);
      seen[static_cast<size_t>(item)] = true;
      EXPECT_GT(item, last[item / kItems]);
      last[item / kItems] = item;
    }
  }
  EXPECT_EQ(taken[0].size() + taken[1].size(), seen.size());
}

}  // namespace
}  // namespace thermocline
