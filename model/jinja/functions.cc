#include "model/jinja/functions.h"

#include <array>
#include <ctime>
#include <string>
#include <vector>

#include "base/str.h"
#include "model/jinja/operators.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

// Jinja2's sandbox has the same limit.
constexpr int64_t kMaxRangeItems = 100'000;
// A date in words takes about 40 bytes.
constexpr size_t kMaxTimeBytes = 512;

Result<Value> Range(Runtime& runtime, const Value&, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(int64_t begin, arguments.Integer(0, 0));
  TC_ASSIGN_OR_RETURN(int64_t end, arguments.Integer(1, 0));
  TC_ASSIGN_OR_RETURN(const int64_t step, arguments.Integer(2, 1));
  if (!arguments.Has(1)) {
    end = begin;
    begin = 0;
  }
  if (step == 0) return InvalidArgument("range step is zero");
  ListBuilder out(runtime);
  int64_t n = 0;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (++n > kMaxRangeItems) {
      return ResourceExhausted(Str("range has too many items:", Kv("max", kMaxRangeItems)));
    }
    out.Append(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  TC_RETURN_IF_ERROR(runtime.Work(static_cast<size_t>(n) * sizeof(Value)));
  return out.Finish();
}

// The entries of the optional positional dict (or list of pairs), then the named ones.
Result<std::vector<Entry>> CollectEntries(Runtime& runtime, const CallArguments& call) {
  std::vector<Entry> entries;
  if (call.positional.size() > 1) return InvalidArgument("too many arguments: dict takes=1");
  for (const Value& source : call.positional) {
    if (source.is(Kind::kDict)) {
      const auto more = source.dict().entries();
      TC_RETURN_IF_ERROR(runtime.Charge(more.size_bytes()));
      entries.assign(more.begin(), more.end());
      continue;
    }
    TC_ASSIGN_OR_RETURN(const auto pairs, Iterate(runtime, source));
    TC_RETURN_IF_ERROR(runtime.Charge(pairs.size() * sizeof(Entry)));
    for (const Value& pair : pairs) {
      if (!pair.is_sequence() || pair.items().size() != 2) {
        return InvalidArgument("dict takes a dict or pairs");
      }
      entries.push_back({pair.items()[0], pair.items()[1]});
    }
  }
  for (const NamedArgument& argument : call.named) {
    entries.push_back({Value::String(argument.name), argument.value});
  }
  return entries;
}

Result<Value> MakeDict(Runtime& runtime, const Value&, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::vector<Entry> entries, CollectEntries(runtime, arguments.raw()));
  return runtime.NewDict(entries);
}

Result<Value> MakeNamespace(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const Value dict, MakeDict(runtime, self, arguments));
  TC_ASSIGN_OR_RETURN(Namespace* const object, runtime.NewNamespace());
  const auto entries = dict.dict().entries();
  TC_RETURN_IF_ERROR(runtime.Charge(entries.size_bytes()));
  for (const Entry& entry : entries) {  // the keys are distinct: no look-up needed
    if (!entry.key.is(Kind::kString)) return InvalidArgument("namespace names must be strings");
    object->attributes.emplace_back(entry.key.text(), entry.value);
  }
  return Value::Of(object);
}

Result<Value> RaiseException(Runtime& runtime, const Value&, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const Value message, ToText(runtime, arguments[0]));
  constexpr size_t kMaxMessageCodePoints = 1024;
  const size_t n = ByteOffset(message.text(), kMaxMessageCodePoints);
  return InvalidArgument(Str("template refused the messages: ", message.text().substr(0, n)));
}

Result<Value> StrftimeNow(Runtime& runtime, const Value&, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view format, arguments.Text(0, ""));
  if (format.size() > kMaxTimeBytes) {
    return InvalidArgument(Str("strftime_now format is too long:", Kv("max_bytes", kMaxTimeBytes)));
  }
  const time_t now = static_cast<time_t>(runtime.now_unix_s());
  std::tm local{};
  if (localtime_r(&now, &local) == nullptr) return InvalidArgument("time out of range");
  std::array<char, 2 * kMaxTimeBytes> text;
  const std::string terminated(format);
  const size_t n = std::strftime(text.data(), text.size(), terminated.c_str(), &local);
  return runtime.NewString({text.data(), n});
}

constexpr std::array<Builtin, 5> kTable = {{
    {"dict", MakeDict, 0, {}, true},
    {"namespace", MakeNamespace, 0, {}, true},
    {"raise_exception", RaiseException, 1, {"message"}},
    {"range", Range, 1, {"start", "stop", "step"}},
    {"strftime_now", StrftimeNow, 1, {"format"}},
}};

}  // namespace

const Builtin* FindFunction(std::string_view name) { return FindBuiltin(kTable, name); }

}  // namespace thermocline::model::jinja
