#include "placement/op_time.h"

#include <gtest/gtest.h>

#include <cmath>

namespace thermocline::placement {
namespace {

WorkerProfile Worker() {
  return {.read_bytes_per_s = Figure::Measured(20e9),
          .gather_bytes_per_s = Figure::Measured(10e9),
          .op_overhead_s = Figure::Measured(1e-6),
          .compute_rates = {{DType::kQ4_0, 1, Figure::Measured(100e9)},
                            {DType::kQ4_0, 64, Figure::Measured(400e9)}}};
}

TEST(WorkerSpeed, TheLargerOfBytesAndFlopsCounts) {
  const WorkerSpeed speed(Worker(), 1);
  const OpLoad read{.dtype = DType::kQ4_0, .bytes = 20e9, .flops = 1};
  EXPECT_DOUBLE_EQ(speed.OpSeconds(read, {}, 1), 1 + 1e-6);
  const OpLoad computed{.dtype = DType::kQ4_0, .bytes = 1, .flops = 300e9};
  EXPECT_DOUBLE_EQ(speed.OpSeconds(computed, {}, 1), 3 + 1e-6);
  const OpLoad unknown{.dtype = DType::kF16, .bytes = 20e9, .flops = 1e18};
  EXPECT_DOUBLE_EQ(speed.OpSeconds(unknown, {}, 1), 1 + 1e-6);
}

TEST(WorkerSpeed, RatesBetweenTwoBatchesChangeWithTheLogarithm) {
  const OpLoad op{.dtype = DType::kQ4_0, .flops = 1e9};
  EXPECT_NEAR(WorkerSpeed(Worker(), 8).OpSeconds(op, {}, 1), 1e9 / 250e9 + 1e-6, 1e-12);
  EXPECT_NEAR(WorkerSpeed(Worker(), 640).OpSeconds(op, {}, 1), 1e9 / 400e9 + 1e-6, 1e-12);
}

TEST(WorkerSpeed, GatheringIsSlowerTheFewerRowsAreRead) {
  const WorkerSpeed speed(Worker(), 1);
  const OpLoad rows{.bytes_per_active = 1e9};
  const NeuronShare ten{.n = 100, .selected = 10, .active = 10};
  EXPECT_NEAR(speed.OpSeconds(rows, ten, 0.05), 1, 1e-5);
  EXPECT_NEAR(speed.OpSeconds(rows, ten, 0.1), 1, 1e-5);
  EXPECT_NEAR(speed.OpSeconds(rows, ten, 0.55), 0.75, 1e-5);
  EXPECT_NEAR(speed.OpSeconds(rows, ten, 1), 0.5, 1e-5);
}

TEST(WorkerSpeed, RowsIn8BitsCountAsTheyAreHeld) {
  WorkerProfile worker = Worker();
  const OpLoad rows{.kind = model::OpKind::kAxpyRows,
                    .dtype = DType::kF16,
                    .bytes_per_active = 1e9,
                    .narrow_share = 0.53125};
  const NeuronShare ten{.n = 100, .selected = 10, .active = 10};
  worker.neuron_rows = model::NeuronRows::kFp8E4M3;
  EXPECT_NEAR(WorkerSpeed(worker, 1).OpSeconds(rows, ten, 0.1), 0.53125, 1e-5);
  OpLoad others = rows;
  others.narrow_share = 1;
  EXPECT_NEAR(WorkerSpeed(worker, 1).OpSeconds(others, ten, 0.1), 1, 1e-5);
  worker.weight_rates = {
      {WeightUse::kAxpyRows, DType::kFp8E4M3, kGatherShare, 1, Figure::Measured(5e9)}};
  EXPECT_NEAR(WorkerSpeed(worker, 1).OpSeconds(rows, ten, 0.1), 10 * 0.53125 / 5, 1e-5);
  worker.neuron_rows = model::NeuronRows::kAsIs;
  EXPECT_NEAR(WorkerSpeed(worker, 1).OpSeconds(rows, ten, 0.1), 1, 1e-5);
}

// As of a profile that was saved without --gpu-rows: products in 8 bits are not free.
TEST(WorkerSpeed, RowsIn8BitsAreNoFasterThanWhatWasMeasured) {
  const OpLoad rows{.kind = model::OpKind::kNeurons,
                    .dtype = DType::kF16,
                    .bytes_per_active = 1e8,
                    .flops_per_use = 1e10,
                    .narrow_share = 0.53125};
  const NeuronShare ten{.n = 100, .selected = 10, .active = 10, .uses = 20};
  WorkerProfile as_is = Worker();
  as_is.compute_rates = {{DType::kF16, 1, Figure::Measured(1e11)}};
  const auto seconds = [&](const WorkerProfile& worker) {
    return WorkerSpeed(worker, 1).OpSeconds(rows, ten, 0.1);
  };
  const auto narrow = [](WorkerProfile worker) {
    worker.neuron_rows = model::NeuronRows::kFp8E4M3;
    return worker;
  };
  EXPECT_NEAR(seconds(as_is), 2, 1e-5);
  EXPECT_DOUBLE_EQ(seconds(narrow(as_is)), seconds(as_is)) << "of compute rates";
  as_is.weight_rates = {{WeightUse::kNeurons, DType::kF16, kGatherShare, 1, Figure::Measured(2e8)}};
  EXPECT_NEAR(seconds(as_is), 5, 1e-5);
  EXPECT_DOUBLE_EQ(seconds(narrow(as_is)), seconds(as_is)) << "of both";
  as_is.compute_rates.clear();
  EXPECT_DOUBLE_EQ(seconds(narrow(as_is)), seconds(as_is)) << "of weight rates";
  as_is.compute_rates = {{DType::kF16, 1, Figure::Measured(1e11)},
                         {DType::kFp8E4M3, 1, Figure::Measured(1e11)}};
  EXPECT_DOUBLE_EQ(seconds(narrow(as_is)), seconds(as_is)) << "products of both types";
  as_is.weight_rates.push_back(
      {WeightUse::kNeurons, DType::kFp8E4M3, kGatherShare, 1, Figure::Measured(2e8)});
  EXPECT_NEAR(seconds(narrow(as_is)), 5 * 0.53125, 1e-5) << "all of both types";
}

TEST(WorkerSpeed, WithoutMeasurementsSomethingIsAssumed) {
  const double seconds = WorkerSpeed({}, 1).OpSeconds({.bytes = 1e9}, {}, 1);
  EXPECT_GT(seconds, 0);
  EXPECT_TRUE(std::isfinite(seconds));
}

}  // namespace
}  // namespace thermocline::placement
