#include "model/torch_pickle.h"

#include <gtest/gtest.h>

#include <string>

namespace thermocline::model {
namespace {

Result<TorchTensor> Read(const std::string& bytes) {
  return ReadTorchPickle(std::as_bytes(std::span(bytes)));
}

// What torch.save writes for a vector, without its memo.
std::string PickleOf(const std::string& storage_class, const std::string& offset,
                     const std::string& shape, const std::string& stride) {
  const std::string zero(1, '\0');
  const auto text = [&](const std::string& t) {
    return "X" + std::string(1, static_cast<char>(t.size())) + zero + zero + zero + t;
  };
  return "\x80\x02" + ("ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")) + "c" +
         storage_class + text("0") + text("cpu") + "K\x06" + "tQ" + offset + shape + stride +
         "\x89" + "ccollections\nOrderedDict\n)RtR.";
}

TEST(TorchPickle, OfAVector) {
  const auto tensor = Read(PickleOf("torch\nLongStorage\n", "K\x03", "K\x06\x85", "K\x02\x85"));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->type, TorchType::kInt64);
  EXPECT_EQ(tensor->storage_key, "0");
  EXPECT_EQ(tensor->offset_elems, 3);
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{6}));
  EXPECT_EQ(tensor->strides, (std::vector<int64_t>{2}));
}

TEST(TorchPickle, NumbersOfEveryWidth) {
  const std::string minus_one("J\xff\xff\xff\xff", 5);
  const std::string two_bytes("M\x34\x12", 3);
  const std::string three_bytes("\x8a\x03\x00\x00\x80", 5);  // -2^23
  const auto tensor =
      Read(PickleOf("torch\nFloatStorage\n", minus_one, two_bytes + "\x85", three_bytes + "\x85"));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->offset_elems, -1);
  EXPECT_EQ(tensor->shape[0], 0x1234);
  EXPECT_EQ(tensor->strides[0], -(1 << 23));
}

TEST(TorchPickle, CallsNothing) {
  EXPECT_EQ(Read("cos\nsystem\nX\x02" + std::string(3, '\0') + "ls\x85R.").status().message(),
            "pickle calls what a plain tensor does not need: os system");
  EXPECT_EQ(Read("].").status().code(), StatusCode::kInvalidArgument);     // EMPTY_LIST
  EXPECT_EQ(Read("\x81.").status().code(), StatusCode::kInvalidArgument);  // NEWOBJ
}

TEST(TorchPickle, StacksThatDoNotAddUpAreBroken) {
  for (const std::string broken : {"", ".", "R.", "t.", "\x86.", "Q.", "q", "h\x05.", "K", "J\x01",
                                   "X\xff\xff\xff\xff.", "cno end", "(K\x01tQ.", "K\x01\x85R."}) {
    const auto tensor = Read(broken);
    EXPECT_EQ(tensor.status().code(), StatusCode::kDataLoss) << broken;
  }
  EXPECT_EQ(Read("K\x01.").status().message(), "the file holds something else than one tensor");
}

TEST(TorchPickle, NestedTuplesAndLongStacksStayBounded) {
  // Each tuple holds the one before twice: copying them would take 2^500 values.
  std::string doubling = ")q" + std::string(1, '\0');
  for (int i = 0; i < 500; ++i) {
    const std::string zero(1, '\0');
    doubling += "h" + zero + "h" + zero + "\x86q" + zero;
  }
  EXPECT_FALSE(Read(doubling + ".").ok());
  EXPECT_EQ(Read(std::string(5000, 'N') + ".").status().message(),
            "pickle has too many values: max=1024");
  EXPECT_FALSE(Read("Nq" + std::string(1, '\0') + std::string(5000, 'h')).ok());
}

}  // namespace
}  // namespace thermocline::model
