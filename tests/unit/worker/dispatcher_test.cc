// Random programs with executors that take ops in any order and on threads of their own: every op
// finds what it waits for done, and all leave what the order of the list leaves.
#include "worker/dispatcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/rng.h"

namespace thermocline::worker {
namespace {

constexpr int kPlaces = 6;
constexpr int kSectionPlace = kPlaces;
constexpr int kNobody = -1;
constexpr int kLayers = 3;  // with one ordered op each

class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}
  int Below(int n) { return static_cast<int>(UniformAt(seed_, n_++) * n); }

 private:
  uint64_t seed_, n_ = 0;
};

uint64_t Mix(uint64_t a, uint64_t b) {
  a ^= b + 0x9e3779b97f4a7c15 + (a << 6) + (a >> 2);
  return a * 0xff51afd7ed558ccd;
}

// One op begins it, a later one ends it, and the latter waits for the former.
void AddSection(Dice* dice, std::vector<OpAccess>* ops) {
  OpAccess begin{.section = Section::kBegin}, end{.section = Section::kEnd};
  begin.writes = {kSectionPlace};
  end.reads = {kSectionPlace};
  ops->insert(ops->begin() + dice->Below(static_cast<int>(ops->size())), begin);
  ops->push_back(end);
}

std::vector<OpAccess> RandomOps(Dice* dice) {
  std::vector<OpAccess> ops(static_cast<size_t>(1 + dice->Below(24)));
  for (OpAccess& op : ops) {
    op.unit = dice->Below(3) == 0 ? Unit::kLink : Unit::kDevice;
    for (int n = dice->Below(4); n > 0; --n) op.reads.push_back(dice->Below(kPlaces));
    for (int n = dice->Below(3); n > 0; --n) op.writes.push_back(dice->Below(kPlaces));
  }
  ops[static_cast<size_t>(dice->Below(static_cast<int>(ops.size())))].is_ordered = true;
  if (dice->Below(2) == 0) AddSection(dice, &ops);
  return ops;
}

bool Shares(const std::vector<int>& a, const std::vector<int>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](int place) { return std::count(b.begin(), b.end(), place) > 0; });
}

// Said again, in other words than OpDag's.
bool MustWait(const OpAccess& later, const OpAccess& earlier) {
  return Shares(later.reads, earlier.writes) || Shares(later.writes, earlier.reads) ||
         Shares(later.writes, earlier.writes);
}

// What batches compute. Plain memory: with ThreadSanitizer, an op that starts too early is a race.
class World {
 public:
  World(const std::vector<std::vector<OpAccess>>& layers, int n_batches)
      : layers_(layers),
        places_(static_cast<size_t>(n_batches), std::vector<uint64_t>(kPlaces + 1)),
        pages_(kLayers),
        done_(static_cast<size_t>(n_batches)) {}

  void StartLayer(int batch, int layer) {
    done_[static_cast<size_t>(batch)].assign(layers_[static_cast<size_t>(layer)].size(), 0);
  }

  void Run(int batch, int layer, int op) {
    const auto& ops = layers_[static_cast<size_t>(layer)];
    auto& done = done_[static_cast<size_t>(batch)];
    const auto at = static_cast<size_t>(op);
    for (size_t i = 0; i < at; ++i) {
      if (MustWait(ops[at], ops[i]) && done[i] != 1) n_early_ += 1;
    }
    const Section section = ops[at].section;
    if (section == Section::kBegin && in_section_.exchange(batch) != kNobody) n_early_ += 1;
    if (section == Section::kEnd && in_section_.exchange(kNobody) != batch) n_early_ += 1;
    std::vector<uint64_t>& places = places_[static_cast<size_t>(batch)];
    uint64_t value = Mix(static_cast<uint64_t>(op), static_cast<uint64_t>(layer));
    for (const int place : ops[at].reads) value = Mix(value, places[static_cast<size_t>(place)]);
    if (ops[at].is_ordered) {
      uint64_t& page = pages_[static_cast<size_t>(layer)];
      page = value = Mix(value, page);
    }
    for (const int place : ops[at].writes) {
      places[static_cast<size_t>(place)] = Mix(value, static_cast<uint64_t>(place));
    }
    done[at] = 1;
  }

  int n_early() const { return n_early_; }
  friend bool operator==(const World& a, const World& b) {
    return a.places_ == b.places_ && a.pages_ == b.pages_;
  }

 private:
  const std::vector<std::vector<OpAccess>>& layers_;
  std::vector<std::vector<uint64_t>> places_;  // by batch
  std::vector<uint64_t> pages_;                // by layer; of all batches
  std::vector<std::vector<char>> done_;        // by batch: ops of its layer
  std::atomic<int> n_early_ = 0;
  std::atomic<int> in_section_ = kNobody;  // which batch
};

// What a run is at.
struct Place {
  int batch = 0;
  int layer = 0;
};

// Does some ops at once, others on a thread that takes them in any order.
class FakeExecutor final : public OpExecutor {
 public:
  FakeExecutor(World* world, const std::vector<Place>* runs, uint64_t seed)
      : world_(world), runs_(runs), dice_(seed), thread_([this, seed] { Work(Dice(seed + 1)); }) {}
  ~FakeExecutor() override {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  Result<bool> Start(OpRef op) override {
    const Task task{op, (*runs_)[static_cast<size_t>(op.run)]};
    if (dice_.Below(4) == 0) {
      world_->Run(task.place.batch, task.place.layer, op.op);
      return true;
    }
    const MutexLock lock(mutex_);
    waiting_.push_back(task);
    changed_.notify_all();
    return false;
  }

  Result<bool> Poll(OpRef* op) override {
    const MutexLock lock(mutex_);
    if (done_.empty()) return false;
    *op = done_.front();
    done_.pop_front();
    return true;
  }

 private:
  struct Task {
    OpRef op;
    Place place;
  };

  void Work(Dice dice) {
    while (true) {
      Task task;
      {
        const MutexLock lock(mutex_);
        while (waiting_.empty() && !stopping_) changed_.wait(mutex_);
        if (waiting_.empty()) return;
        const auto at = waiting_.begin() + dice.Below(static_cast<int>(waiting_.size()));
        task = *at;
        waiting_.erase(at);
      }
      world_->Run(task.place.batch, task.place.layer, task.op.op);
      const MutexLock lock(mutex_);
      done_.push_back(task.op);
    }
  }

  World* const world_;
  const std::vector<Place>* const runs_;
  Dice dice_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Task> waiting_ GUARDED_BY(mutex_);
  std::deque<OpRef> done_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Takes `n_batches` through the layers, up to `max_runs` at a time.
void Dispatch(const std::vector<OpDag>& dags, int n_batches, int max_runs, uint64_t seed,
              World* world) {
  std::vector<Place> runs(static_cast<size_t>(max_runs));
  ReadyQueue queue(max_runs);
  FakeExecutor device(world, &runs, seed), links(world, &runs, seed + 100);
  Dispatcher dispatcher(&queue, &device, &links);
  const auto start = [&](int run, Place place) {
    runs[static_cast<size_t>(run)] = place;
    world->StartLayer(place.batch, place.layer);
    queue.Start(run, dags[static_cast<size_t>(place.layer)]);
  };
  int n_begun = 0;
  while (n_begun < n_batches || queue.n_runs() > 0) {
    int free = 0;
    while (free < max_runs && queue.IsUnderWay(free)) ++free;
    if (free < max_runs && n_begun < n_batches) {
      queue.Enter(free);
      start(free, {n_begun++, 0});
    }
    const auto done = dispatcher.Advance();
    ASSERT_TRUE(done.ok());
    if (*done == kNoRun) {
      std::this_thread::yield();
      continue;
    }
    const Place place = runs[static_cast<size_t>(*done)];
    if (place.layer + 1 == kLayers) {
      queue.Leave(*done);
    } else {
      start(*done, {place.batch, place.layer + 1});
    }
  }
}

TEST(Dispatcher, AnyOrderGivesWhatTheListGives) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Dice dice(seed);
    std::vector<std::vector<OpAccess>> layers;
    std::vector<OpDag> dags;
    for (int i = 0; i < kLayers; ++i) {
      layers.push_back(RandomOps(&dice));
      dags.emplace_back(layers.back());
    }
    const int n_batches = 1 + dice.Below(6), max_runs = 1 + dice.Below(3);
    World expected(layers, n_batches);
    for (int batch = 0; batch < n_batches; ++batch) {
      for (int layer = 0; layer < kLayers; ++layer) {
        expected.StartLayer(batch, layer);
        const auto n_ops = static_cast<int>(layers[static_cast<size_t>(layer)].size());
        for (int op = 0; op < n_ops; ++op) expected.Run(batch, layer, op);
      }
    }
    World world(layers, n_batches);
    Dispatch(dags, n_batches, max_runs, seed, &world);
    EXPECT_EQ(world.n_early(), 0) << "seed " << seed;
    EXPECT_TRUE(world == expected) << "seed " << seed;
  }
}

// Does what it is told at once, or never; writes down what it was told.
class Recorder final : public OpExecutor {
 public:
  Recorder(std::vector<OpRef>* told, bool finishes) : told_(told), finishes_(finishes) {}
  Result<bool> Start(OpRef op) override {
    told_->push_back(op);
    return finishes_;
  }
  Result<bool> Poll(OpRef* op) override {
    if (next_ == nullptr) return false;
    *op = *next_;
    next_ = nullptr;
    return true;
  }
  // An op under way that the next Poll names.
  void Finish(const OpRef* op) { next_ = op; }

 private:
  std::vector<OpRef>* told_;
  const bool finishes_;
  const OpRef* next_ = nullptr;
};

std::vector<OpAccess> Chain(const std::vector<Unit>& units) {
  std::vector<OpAccess> ops;
  for (const Unit unit : units) ops.push_back({.unit = unit, .reads = {0}, .writes = {0}});
  return ops;
}

TEST(Dispatcher, OneRunGoesInTheOrderOfTheList) {
  std::vector<OpAccess> ops(70);  // nothing in the way of another order
  const OpDag dag(ops);
  ReadyQueue queue(1);
  std::vector<OpRef> told;
  Recorder device(&told, true), links(&told, true);
  Dispatcher dispatcher(&queue, &device, &links);
  queue.Enter(0);
  queue.Start(0, dag);
  EXPECT_EQ(*dispatcher.Advance(), 0);
  ASSERT_EQ(told.size(), ops.size());
  for (size_t i = 0; i < told.size(); ++i) EXPECT_EQ(told[i].op, static_cast<int>(i));
  EXPECT_EQ(queue.n_completed(), ops.size());
}

TEST(Dispatcher, AYoungerRunIsComputedWhileAnOlderOneWaits) {
  const OpDag dag(Chain({Unit::kDevice, Unit::kLink, Unit::kDevice}));
  ReadyQueue queue(2);
  std::vector<OpRef> told;
  Recorder device(&told, true), links(&told, false);
  Dispatcher dispatcher(&queue, &device, &links);
  for (const int run : {1, 0}) {
    queue.Enter(run);
    queue.Start(run, dag);
  }
  EXPECT_EQ(*dispatcher.Advance(), kNoRun);
  EXPECT_EQ(told, (std::vector<OpRef>{{1, 0}, {1, 1}, {0, 0}, {0, 1}}));
  const OpRef waited{1, 1};
  links.Finish(&waited);
  EXPECT_EQ(*dispatcher.Advance(), 1);
  EXPECT_EQ(told.back(), (OpRef{1, 2}));
}

TEST(Dispatcher, AnOrderedOpWaitsForTheOlderRunsOne) {
  std::vector<OpAccess> ops = Chain({Unit::kLink, Unit::kDevice});
  ops[1].is_ordered = true;
  ops.push_back({.unit = Unit::kDevice});
  const OpDag dag(ops);
  ReadyQueue queue(2);
  queue.Enter(0);
  queue.Start(0, dag);
  queue.Enter(1);
  queue.Start(1, dag);
  OpRef op;
  ASSERT_TRUE(queue.Take(Unit::kLink, &op));
  ASSERT_TRUE(queue.Take(Unit::kLink, &op));
  EXPECT_EQ(op, (OpRef{1, 0}));
  queue.Complete(op);
  ASSERT_TRUE(queue.Take(Unit::kDevice, &op));
  EXPECT_EQ(op, (OpRef{0, 2}));
  ASSERT_TRUE(queue.Take(Unit::kDevice, &op));
  EXPECT_EQ(op, (OpRef{1, 2}));  // not its ordered op, ready as it is
  EXPECT_FALSE(queue.Take(Unit::kDevice, &op));
  queue.Complete({0, 0});
  ASSERT_TRUE(queue.Take(Unit::kDevice, &op));
  EXPECT_EQ(op, (OpRef{0, 1}));
  EXPECT_FALSE(queue.Take(Unit::kDevice, &op));
  queue.Complete({0, 1});
  ASSERT_TRUE(queue.Take(Unit::kDevice, &op));
  EXPECT_EQ(op, (OpRef{1, 1}));
}

TEST(OpDag, WaitsForWritersReadersAndNobodyElse) {
  // 0 writes a; 1 and 2 read it; 3 writes it again, 4 reads another place.
  const std::vector<OpAccess> ops = {{.writes = {0}},
                                     {.reads = {0}, .writes = {1}},
                                     {.reads = {0}},
                                     {.writes = {0}},
                                     {.reads = {2}}};
  const OpDag dag(ops);
  EXPECT_EQ(std::vector<uint16_t>(dag.prerequisites().begin(), dag.prerequisites().end()),
            (std::vector<uint16_t>{0, 1, 1, 3, 0}));
  const auto of = [&](int op) {
    return std::vector<uint16_t>(dag.dependents(op).begin(), dag.dependents(op).end());
  };
  EXPECT_EQ(of(0), (std::vector<uint16_t>{1, 2, 3}));
  EXPECT_EQ(of(1), (std::vector<uint16_t>{3}));
  EXPECT_EQ(of(4), (std::vector<uint16_t>{}));
  EXPECT_TRUE(dag.roots(Unit::kDevice).Has(4));
  EXPECT_FALSE(dag.roots(Unit::kDevice).Has(1));
}

}  // namespace
}  // namespace thermocline::worker
