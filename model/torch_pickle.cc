#include "model/torch_pickle.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/str.h"

namespace thermocline::model {
namespace {

// Opcodes that torch.save writes for a tensor. Source: Lib/pickletools.py.
enum Opcode : uint8_t {
  kMarkOp = '(',
  kEmptyTuple = ')',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNoneOp = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kGlobal = 'c',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kTuple = 't',
  kEmptyDict = '}',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
};

enum class Kind : uint8_t { kMark, kOther, kInt, kText, kGlobal, kTuple, kStorage, kTensor };

// Values refer to others by their index, so that no stack of tuples can grow by copying.
struct Value {
  Kind kind = Kind::kOther;
  int64_t number = 0;
  std::string text;        // of kText, and "module name" of kGlobal
  std::vector<int> items;  // of kTuple; of kStorage: nothing but what the tensor needs
  TorchTensor tensor;      // of kStorage: its type and key
};

constexpr std::array<std::pair<std::string_view, TorchType>, 4> kStorages = {{
    {"torch IntStorage", TorchType::kInt32},
    {"torch LongStorage", TorchType::kInt64},
    {"torch FloatStorage", TorchType::kFloat32},
    {"torch DoubleStorage", TorchType::kFloat64},
}};

Status Broken(std::string_view what, size_t at) {
  return DataLoss(Str("pickle is broken: ", what, Kv("offset", at)));
}

// The stack machine of one pickle; lives in ReadTorchPickle.
class PickleReader {
 public:
  explicit PickleReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Result<TorchTensor> Run() {
    while (true) {
      uint8_t op = 0;
      TC_RETURN_IF_ERROR(Read(&op));
      if (op == kStop) break;
      TC_RETURN_IF_ERROR(Step(op));
    }
    if (stack_.empty()) return Broken("nothing on its stack", at_);
    const Value& top = values_[static_cast<size_t>(stack_.back())];
    if (top.kind == Kind::kTensor) return top.tensor;
    return InvalidArgument("the file holds something else than one tensor");
  }

 private:
  template <typename T>
  Status Read(T* value) {
    if (bytes_.size() - at_ < sizeof(T)) return Broken("it ends early", at_);
    std::memcpy(value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return OkStatus();
  }

  Status ReadText(uint64_t length, std::string* text) {
    if (length > bytes_.size() - at_) return Broken("a text leaves it", at_);
    text->assign(reinterpret_cast<const char*>(bytes_.data() + at_), length);
    at_ += length;
    return OkStatus();
  }

  Status ReadLine(std::string* text) {
    const auto* const begin = reinterpret_cast<const char*>(bytes_.data() + at_);
    const void* const end = std::memchr(begin, '\n', bytes_.size() - at_);
    if (end == nullptr) return Broken("a line has no end", at_);
    text->assign(begin, static_cast<const char*>(end));
    at_ += text->size() + 1;
    return OkStatus();
  }

  Status Push(Value value) {
    if (values_.size() == kMaxPickleValues) {
      return InvalidArgument(Str("pickle has too many values:", Kv("max", kMaxPickleValues)));
    }
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<int>(values_.size()) - 1);
    return OkStatus();
  }

  Status PushInt(int64_t number) {
    Value value;
    value.kind = Kind::kInt;
    value.number = number;
    return Push(std::move(value));
  }

  template <typename T>
  Status ReadInt() {
    T number = 0;
    TC_RETURN_IF_ERROR(Read(&number));
    return PushInt(number);
  }

  Status Step(uint8_t op) {
    switch (op) {
      case kProto: {
        uint8_t version = 0;
        return Read(&version);
      }
      case kMarkOp: {
        Value mark;
        mark.kind = Kind::kMark;
        return Push(std::move(mark));
      }
      case kNoneOp:
      case kNewTrue:
      case kNewFalse:
      case kEmptyDict:
        return Push({});
      case kBinInt1:
        return ReadInt<uint8_t>();
      case kBinInt2:
        return ReadInt<uint16_t>();
      case kBinInt:
        return ReadInt<int32_t>();
      case kLong1:
        return ReadLong();
      case kBinUnicode:
      case kGlobal:
        return ReadName(op);
      case kBinPut:
      case kLongBinPut:
      case kBinGet:
      case kLongBinGet:
        return StepMemo(op);
      case kEmptyTuple:
        return MakeTuple(0);
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return MakeTuple(static_cast<size_t>(op - kTuple1) + 1);
      case kTuple:
        return MakeMarkedTuple();
      case kBinPersId:
        return MakeStorage();
      case kReduce:
        return Reduce();
      default:
        return InvalidArgument(Str("pickle has an opcode that a tensor does not need:",
                                   Kv("opcode", static_cast<int>(op)), Kv("offset", at_ - 1)));
    }
  }

  // Little-endian two's complement of a length up to 255 bytes; eight are as many as we want.
  Status ReadLong() {
    uint8_t length = 0;
    TC_RETURN_IF_ERROR(Read(&length));
    if (length > sizeof(int64_t)) {
      return InvalidArgument(Str("pickle has a number of too many bytes:", Kv("bytes", length)));
    }
    uint64_t number = 0;
    for (int i = 0; i < length; ++i) {
      uint8_t byte = 0;
      TC_RETURN_IF_ERROR(Read(&byte));
      number |= uint64_t{byte} << (8 * i);
      const bool is_negative = i + 1 == length && (byte & 0x80) != 0 && length < 8;
      if (is_negative) number |= ~uint64_t{0} << (8 * length);
    }
    return PushInt(static_cast<int64_t>(number));
  }

  Status ReadName(uint8_t op) {
    Value value;
    if (op == kBinUnicode) {
      value.kind = Kind::kText;
      uint32_t length = 0;
      TC_RETURN_IF_ERROR(Read(&length));
      TC_RETURN_IF_ERROR(ReadText(length, &value.text));
    } else {
      value.kind = Kind::kGlobal;
      std::string name;
      TC_RETURN_IF_ERROR(ReadLine(&value.text));
      TC_RETURN_IF_ERROR(ReadLine(&name));
      value.text += " " + name;
    }
    return Push(std::move(value));
  }

  Status StepMemo(uint8_t op) {
    uint32_t key = 0;
    if (op == kLongBinPut || op == kLongBinGet) {
      TC_RETURN_IF_ERROR(Read(&key));
    } else {
      uint8_t brief = 0;
      TC_RETURN_IF_ERROR(Read(&brief));
      key = brief;
    }
    if (op == kBinPut || op == kLongBinPut) {
      if (stack_.empty()) return Broken("it remembers nothing", at_);
      memo_[key] = stack_.back();
      return OkStatus();
    }
    const auto found = memo_.find(key);
    if (found == memo_.end()) return Broken("it recalls what it did not remember", at_);
    // Bounded like the values, which every recall costs one of.
    if (stack_.size() >= kMaxPickleValues) return Broken("its stack is too deep", at_);
    stack_.push_back(found->second);
    return OkStatus();
  }

  Status MakeTuple(size_t n) {
    if (stack_.size() < n) return Broken("a tuple is larger than its stack", at_);
    Value tuple;
    tuple.kind = Kind::kTuple;
    tuple.items.assign(stack_.end() - static_cast<std::ptrdiff_t>(n), stack_.end());
    stack_.resize(stack_.size() - n);
    return Push(std::move(tuple));
  }

  Status MakeMarkedTuple() {
    for (size_t n = 0; n < stack_.size(); ++n) {
      const size_t at = stack_.size() - 1 - n;
      if (values_[static_cast<size_t>(stack_[at])].kind != Kind::kMark) continue;
      stack_.erase(stack_.begin() + static_cast<std::ptrdiff_t>(at));
      return MakeTuple(n);
    }
    return Broken("a tuple has no beginning", at_);
  }

  // Takes the top of the stack; null when it is empty or of another kind.
  const Value* Pop(Kind kind) {
    if (stack_.empty()) return nullptr;
    const Value* const value = &values_[static_cast<size_t>(stack_.back())];
    stack_.pop_back();
    return value->kind == kind ? value : nullptr;
  }

  const Value* Item(const Value& tuple, size_t i, Kind kind) const {
    if (i >= tuple.items.size()) return nullptr;
    const Value* const value = &values_[static_cast<size_t>(tuple.items[i])];
    return value->kind == kind ? value : nullptr;
  }

  // ('storage', class, key, device, elements).
  Status MakeStorage() {
    const Value* const id = Pop(Kind::kTuple);
    const Value* const type = id == nullptr ? nullptr : Item(*id, 1, Kind::kGlobal);
    const Value* const key = id == nullptr ? nullptr : Item(*id, 2, Kind::kText);
    if (type == nullptr || key == nullptr) return Broken("a storage is not described", at_);
    for (const auto& [name, torch_type] : kStorages) {
      if (type->text != name) continue;
      Value storage;
      storage.kind = Kind::kStorage;
      storage.tensor.type = torch_type;
      storage.tensor.storage_key = key->text;
      return Push(std::move(storage));
    }
    return InvalidArgument(Str("tensor of a type that counts do not have: ", Printable(type->text),
                               "; int32, int64, float32 and float64 are read"));
  }

  Status Reduce() {
    const Value* const arguments = Pop(Kind::kTuple);
    const Value* const function = Pop(Kind::kGlobal);
    if (arguments == nullptr || function == nullptr) return Broken("a call has no target", at_);
    if (function->text == "collections OrderedDict") return Push({});
    if (function->text != "torch._utils _rebuild_tensor_v2") {
      return InvalidArgument(
          Str("pickle calls what a plain tensor does not need: ", Printable(function->text)));
    }
    return MakeTensor(*arguments);
  }

  // (storage, offset, shape, strides, requires_grad, hooks).
  Status MakeTensor(const Value& arguments) {
    const Value* const storage = Item(arguments, 0, Kind::kStorage);
    const Value* const offset = Item(arguments, 1, Kind::kInt);
    if (storage == nullptr || offset == nullptr) return Broken("a tensor is not described", at_);
    Value tensor;
    tensor.kind = Kind::kTensor;
    tensor.tensor = storage->tensor;
    tensor.tensor.offset_elems = offset->number;
    TC_RETURN_IF_ERROR(ReadInts(Item(arguments, 2, Kind::kTuple), &tensor.tensor.shape));
    TC_RETURN_IF_ERROR(ReadInts(Item(arguments, 3, Kind::kTuple), &tensor.tensor.strides));
    return Push(std::move(tensor));
  }

  Status ReadInts(const Value* tuple, std::vector<int64_t>* numbers) {
    if (tuple == nullptr) return Broken("a shape is no tuple", at_);
    for (size_t i = 0; i < tuple->items.size(); ++i) {
      const Value* const number = Item(*tuple, i, Kind::kInt);
      if (number == nullptr) return Broken("a shape has something else than numbers", at_);
      numbers->push_back(number->number);
    }
    return OkStatus();
  }

  const std::span<const std::byte> bytes_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<int> stack_;  // indices of values_
  std::map<uint32_t, int> memo_;
};

}  // namespace

Result<TorchTensor> ReadTorchPickle(std::span<const std::byte> bytes) {
  return PickleReader(bytes).Run();
}

}  // namespace thermocline::model
