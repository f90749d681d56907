// Reads a tokenizer's metadata from a GGUF file.
#include <string>
#include <utility>

#include "base/str.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace thermocline::model {
namespace {

// The value of an optional key: nothing when it is absent, an error when it has the wrong type.
template <typename Get>
auto Optional(const GgufFile& file, Get get, const std::string& key)
    -> Result<std::optional<std::decay_t<decltype((file.*get)(key).value())>>> {
  using Value = std::decay_t<decltype((file.*get)(key).value())>;
  if (!file.Has(key)) return std::optional<Value>();
  TC_ASSIGN_OR_RETURN(Value value, (file.*get)(key));
  return std::optional<Value>(std::move(value));
}

Status ReadArrays(const GgufFile& file, TokenizerData* data) {
  TC_ASSIGN_OR_RETURN(data->tokens, file.GetStrings("tokenizer.ggml.tokens"));
  TC_ASSIGN_OR_RETURN(auto scores, Optional(file, &GgufFile::GetFloats, "tokenizer.ggml.scores"));
  if (scores) data->scores.assign(scores->begin(), scores->end());
  TC_ASSIGN_OR_RETURN(auto types, Optional(file, &GgufFile::GetInts, "tokenizer.ggml.token_type"));
  if (types) data->types = *std::move(types);
  TC_ASSIGN_OR_RETURN(auto merges, Optional(file, &GgufFile::GetStrings, "tokenizer.ggml.merges"));
  if (merges) data->merges = *std::move(merges);
  return OkStatus();
}

Status ReadSpecial(const GgufFile& file, TokenizerData* data) {
  const auto id = [&](const char* name) {
    return Optional(file, &GgufFile::GetInt, Str("tokenizer.ggml.", name, "_token_id"));
  };
  const auto flag = [&](const char* name) {
    return Optional(file, &GgufFile::GetBool, Str("tokenizer.ggml.", name));
  };
  TC_ASSIGN_OR_RETURN(data->bos, id("bos"));
  TC_ASSIGN_OR_RETURN(data->eos, id("eos"));
  TC_ASSIGN_OR_RETURN(data->eot, id("eot"));
  TC_ASSIGN_OR_RETURN(data->eom, id("eom"));
  TC_ASSIGN_OR_RETURN(data->unknown, id("unknown"));
  TC_ASSIGN_OR_RETURN(data->padding, id("padding"));
  TC_ASSIGN_OR_RETURN(data->add_bos, flag("add_bos_token"));
  TC_ASSIGN_OR_RETURN(data->add_eos, flag("add_eos_token"));
  TC_ASSIGN_OR_RETURN(data->add_space_prefix, flag("add_space_prefix"));
  return OkStatus();
}

}  // namespace

Result<TokenizerData> ReadTokenizerData(const GgufFile& file) {
  TokenizerData data;
  TC_ASSIGN_OR_RETURN(const auto model,
                      Optional(file, &GgufFile::GetString, "tokenizer.ggml.model"));
  if (!model) return InvalidArgument("missing key: tokenizer.ggml.model");
  if (*model == "none" || *model == "no_vocab") {
    return NotFound(Str("the file has no tokenizer: tokenizer.ggml.model=\"", *model, "\""));
  }
  data.model = *model;
  TC_ASSIGN_OR_RETURN(const auto pre, Optional(file, &GgufFile::GetString, "tokenizer.ggml.pre"));
  data.pre = pre.value_or("");
  if (!file.Has("tokenizer.ggml.tokens")) {
    return InvalidArgument("missing key: tokenizer.ggml.tokens");
  }
  TC_RETURN_IF_ERROR(ReadArrays(file, &data));
  TC_RETURN_IF_ERROR(ReadSpecial(file, &data));
  return data;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufFile& file) {
  TC_ASSIGN_OR_RETURN(TokenizerData data, ReadTokenizerData(file));
  return MakeTokenizer(std::move(data));
}

}  // namespace thermocline::model
