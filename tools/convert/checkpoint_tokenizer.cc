#include "tools/convert/checkpoint_tokenizer.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/sentencepiece_file.h"
#include "tools/convert/json_file.h"

namespace thermocline::tools {
namespace {

using nlohmann::json;

// Types of tokens in GGUF.
constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
// Score of tokens that SentencePiece did not train: never merged to.
constexpr float kNoScore = -1000;

struct Vocab {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;  // SentencePiece only

  // Sets token `id`, with unused tokens up to it. kInvalidArgument beyond n_vocab.
  Status Set(int64_t id, std::string text, int32_t type, int64_t n_vocab) {
    if (id < 0 || id >= n_vocab) {
      return InvalidArgument(Str("token outside the vocabulary: \"", Printable(text), "\"",
                                 Kv("id", id), Kv("vocab_size", n_vocab)));
    }
    FillTo(id + 1);
    tokens[static_cast<size_t>(id)] = std::move(text);
    types[static_cast<size_t>(id)] = type;
    return OkStatus();
  }
  void FillTo(int64_t n) {
    while (static_cast<int64_t>(tokens.size()) < n) {
      tokens.push_back(Str("[PAD", tokens.size(), "]"));
      types.push_back(kUnused);
      scores.push_back(kNoScore);
    }
  }
  std::optional<uint32_t> IdOf(std::string_view text) const {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == text) return static_cast<uint32_t>(i);
    }
    return std::nullopt;
  }
};

// The expressions that published tokenizer.json files cut text by, and the GGUF names of the
// pre-tokenizers that do the same.
constexpr std::string_view kLlamaSplit =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwenSplit =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The steps of a pre-tokenizer, one or a sequence.
std::vector<json> StepsOf(const json& tokenizer) {
  const json* pre = FindField(tokenizer, "pre_tokenizer");
  if (pre == nullptr) return {};
  const json* list = FindField(*pre, "pretokenizers");
  if (list == nullptr || !list->is_array()) return {*pre};
  return {list->begin(), list->end()};
}

Result<std::string> PreTokenizerName(const json& tokenizer) {
  std::string pattern;
  bool is_byte_level = false, splits_itself = false;
  for (const json& step : StepsOf(tokenizer)) {
    TC_ASSIGN_OR_RETURN(const auto type, StringField(step, "type"));
    const json* split = FindField(step, "pattern");
    if (type == "ByteLevel") {
      is_byte_level = true;
      TC_ASSIGN_OR_RETURN(const auto use_regex, BoolField(step, "use_regex"));
      splits_itself = use_regex.value_or(true);
    } else if (type == "Split" && split != nullptr && pattern.empty()) {
      TC_ASSIGN_OR_RETURN(const auto regex, StringField(*split, "Regex"));
      pattern = regex.value_or("");
    } else {
      return InvalidArgument(
          Str("unsupported pre-tokenizer in tokenizer.json: ", Printable(type.value_or("?"))));
    }
  }
  if (!is_byte_level) {
    return InvalidArgument(
        "unsupported tokenizer.json: not byte-level BPE, and there is no tokenizer.model");
  }
  if (pattern.empty() && splits_itself) return std::string("gpt-2");
  if (pattern == kLlamaSplit) return std::string("llama-bpe");
  if (pattern == kQwenSplit) return std::string("qwen2");
  return InvalidArgument(
      Str("unsupported pre-tokenizer expression in tokenizer.json: ", Printable(pattern)));
}

Status ReadAddedTokens(const json& list, int64_t n_vocab, Vocab* vocab) {
  for (const json& entry : list) {
    TC_ASSIGN_OR_RETURN(const auto id, IntField(entry, "id"));
    TC_ASSIGN_OR_RETURN(const auto text, StringField(entry, "content"));
    TC_ASSIGN_OR_RETURN(const auto special, BoolField(entry, "special"));
    if (!id || !text) return DataLoss("added token of tokenizer.json lacks id or content");
    const int32_t type = special.value_or(false) ? kControl : kUserDefined;
    TC_RETURN_IF_ERROR(vocab->Set(*id, *text, type, n_vocab));
  }
  return OkStatus();
}

// "a b", or ["a", "b"] in newer files.
Result<std::vector<std::string>> ReadMerges(const json& bpe) {
  const json* list = FindField(bpe, "merges");
  if (list == nullptr || !list->is_array()) return DataLoss("tokenizer.json has no merges");
  std::vector<std::string> merges;
  for (const json& entry : *list) {
    if (entry.is_string()) {
      merges.push_back(entry.get<std::string>());
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
               entry[1].is_string()) {
      merges.push_back(Str(entry[0].get<std::string>(), " ", entry[1].get<std::string>()));
    } else {
      return DataLoss(Str("merge of tokenizer.json is no pair:", Kv("index", merges.size())));
    }
  }
  return merges;
}

void SetBpeMetadata(const Vocab& vocab, const std::vector<std::string>& merges,
                    const std::string& pre, model::GgufMetadata* metadata) {
  metadata->SetString("tokenizer.ggml.model", "gpt2");
  metadata->SetString("tokenizer.ggml.pre", pre);
  metadata->SetStrings("tokenizer.ggml.tokens", vocab.tokens);
  metadata->SetI32s("tokenizer.ggml.token_type", vocab.types);
  metadata->SetStrings("tokenizer.ggml.merges", merges);
}

// {"text": id} of `file`.
Status ReadVocab(const json& tokens, std::string_view file, int64_t n_vocab, Vocab* vocab) {
  for (const auto& [text, id] : tokens.items()) {
    if (!id.is_number_integer()) return DataLoss(Str("id of ", file, " is no integer"));
    TC_RETURN_IF_ERROR(vocab->Set(id.get<int64_t>(), text, kNormal, n_vocab));
  }
  return OkStatus();
}

Result<Vocab> SetBpe(const std::string& path, int64_t n_vocab, model::GgufMetadata* metadata) {
  TC_ASSIGN_OR_RETURN(const json tokenizer, ReadJsonFile(path));
  const json* bpe = FindField(tokenizer, "model");
  const json* tokens = bpe == nullptr ? nullptr : FindField(*bpe, "vocab");
  if (tokens == nullptr || !tokens->is_object()) {
    return InvalidArgument("unsupported tokenizer.json: its model has no vocabulary of BPE");
  }
  TC_ASSIGN_OR_RETURN(const std::string pre, PreTokenizerName(tokenizer));
  Vocab vocab;
  TC_RETURN_IF_ERROR(ReadVocab(*tokens, "tokenizer.json", n_vocab, &vocab));
  if (const json* added = FindField(tokenizer, "added_tokens"); added != nullptr) {
    TC_RETURN_IF_ERROR(ReadAddedTokens(*added, n_vocab, &vocab));
  }
  TC_ASSIGN_OR_RETURN(const std::vector<std::string> merges, ReadMerges(*bpe));
  vocab.FillTo(n_vocab);
  SetBpeMetadata(vocab, merges, pre, metadata);
  return vocab;
}

void SetId(std::string_view name, std::optional<int64_t> id, model::GgufMetadata* metadata) {
  if (!id || *id < 0) return;
  metadata->SetU32(Str("tokenizer.ggml.", name, "_token_id"), static_cast<uint32_t>(*id));
}

// Tokens that were added to the vocabulary after training: {"content": id} in added_tokens.json.
Status ReadLaterTokens(const std::string& folder, int64_t n_vocab, Vocab* vocab) {
  const std::string path = folder + "/added_tokens.json";
  if (!FileExists(path)) return OkStatus();
  TC_ASSIGN_OR_RETURN(const json added, ReadJsonFile(path));
  const auto n_trained = static_cast<int64_t>(vocab->tokens.size());
  for (const auto& [text, id] : added.items()) {
    if (!id.is_number_integer()) return DataLoss("id of added_tokens.json is no integer");
    if (id.get<int64_t>() < n_trained) continue;
    TC_RETURN_IF_ERROR(vocab->Set(id.get<int64_t>(), text, kUserDefined, n_vocab));
  }
  return OkStatus();
}

Result<Vocab> SetSentencePiece(const std::string& folder, int64_t n_vocab,
                               model::GgufMetadata* metadata) {
  TC_ASSIGN_OR_RETURN(const std::string bytes,
                      ReadWholeFile(folder + "/tokenizer.model", model::kMaxSentencePieceBytes));
  TC_ASSIGN_OR_RETURN(const model::SentencePieceFile file, model::ParseSentencePieceFile(bytes));
  if (!file.is_bpe) {
    return InvalidArgument("unsupported tokenizer.model: its algorithm is not BPE");
  }
  Vocab vocab;
  for (const model::SentencePiece& piece : file.pieces) {
    const auto id = static_cast<int64_t>(vocab.tokens.size());
    TC_RETURN_IF_ERROR(vocab.Set(id, piece.text, piece.type, n_vocab));
    vocab.scores.back() = piece.score;
  }
  TC_RETURN_IF_ERROR(ReadLaterTokens(folder, n_vocab, &vocab));
  vocab.FillTo(n_vocab);
  metadata->SetString("tokenizer.ggml.model", "llama");
  metadata->SetString("tokenizer.ggml.pre", "default");
  metadata->SetStrings("tokenizer.ggml.tokens", vocab.tokens);
  metadata->SetF32s("tokenizer.ggml.scores", vocab.scores);
  metadata->SetI32s("tokenizer.ggml.token_type", vocab.types);
  metadata->SetBool("tokenizer.ggml.add_space_prefix", file.adds_space_prefix);
  SetId("unknown", file.unknown_id, metadata);
  SetId("bos", file.bos_id, metadata);
  SetId("eos", file.eos_id, metadata);
  SetId("padding", file.pad_id, metadata);
  return vocab;
}

// A special token is text, or an object with its text.
Result<std::optional<std::string>> TokenField(const json& config, std::string_view key) {
  const json* field = FindField(config, key);
  if (field != nullptr && field->is_object()) return StringField(*field, "content");
  return StringField(config, key);
}

// A template is text, or a list of named ones, of which "default" counts.
Result<std::optional<std::string>> TemplateField(const json& config) {
  const json* field = FindField(config, "chat_template");
  if (field == nullptr || !field->is_array()) return StringField(config, "chat_template");
  for (const json& entry : *field) {
    TC_ASSIGN_OR_RETURN(const auto name, StringField(entry, "name"));
    if (name == "default") return StringField(entry, "template");
  }
  return std::optional<std::string>();
}

Status SetTemplate(const std::string& folder, const json& config, model::GgufMetadata* metadata) {
  TC_ASSIGN_OR_RETURN(auto text, TemplateField(config));
  const std::string path = folder + "/chat_template.jinja";
  if (FileExists(path)) {
    TC_ASSIGN_OR_RETURN(text, ReadWholeFile(path, kMaxJsonFileBytes));
  }
  if (text) metadata->SetString("tokenizer.chat_template", *text);
  return OkStatus();
}

// Fields of tokenizer_config.json and the special tokens that they name.
constexpr std::pair<const char*, const char*> kSpecialTokens[] = {
    {"bos_token", "bos"}, {"eos_token", "eos"}, {"unk_token", "unknown"}, {"pad_token", "padding"}};

// One pair a line, after a line with the version.
Result<std::vector<std::string>> ReadMergesFile(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxJsonFileBytes));
  std::vector<std::string> merges;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !(begin == 0 && line.starts_with("#version"))) {
      merges.push_back(std::move(line));
    }
    begin = end + 1;
  }
  return merges;
}

// GPT-2's own files, vocab.json and merges.txt: how OPT's tokenizer is published.
Result<Vocab> SetGpt2(const std::string& folder, int64_t n_vocab, model::GgufMetadata* metadata) {
  TC_ASSIGN_OR_RETURN(const json config, ReadJsonFile(folder + "/tokenizer_config.json"));
  TC_ASSIGN_OR_RETURN(const auto kind, StringField(config, "tokenizer_class"));
  if (kind != "GPT2Tokenizer" && kind != "GPT2TokenizerFast") {
    return InvalidArgument(Str("unsupported tokenizer: vocab.json and merges.txt of \"",
                               Printable(kind.value_or("?")),
                               "\"; those of GPT2Tokenizer are supported, others need "
                               "tokenizer.json"));
  }
  TC_ASSIGN_OR_RETURN(const json tokens, ReadJsonFile(folder + "/vocab.json"));
  TC_ASSIGN_OR_RETURN(const auto merges, ReadMergesFile(folder + "/merges.txt"));
  Vocab vocab;
  TC_RETURN_IF_ERROR(ReadVocab(tokens, "vocab.json", n_vocab, &vocab));
  for (const auto& [field, name] : kSpecialTokens) {
    TC_ASSIGN_OR_RETURN(const auto text, TokenField(config, field));
    const auto id = text ? vocab.IdOf(*text) : std::nullopt;
    if (id) vocab.types[*id] = kControl;
  }
  vocab.FillTo(n_vocab);
  SetBpeMetadata(vocab, merges, "gpt-2", metadata);
  return vocab;
}

Status SetSpecial(const std::string& folder, const Vocab& vocab, model::GgufMetadata* metadata) {
  json config = json::object();
  if (const std::string path = folder + "/tokenizer_config.json"; FileExists(path)) {
    TC_ASSIGN_OR_RETURN(config, ReadJsonFile(path));
  }
  for (const auto& [field, name] : kSpecialTokens) {
    TC_ASSIGN_OR_RETURN(const auto text, TokenField(config, field));
    if (text) SetId(name, vocab.IdOf(*text), metadata);
  }
  for (const char* flag : {"add_bos_token", "add_eos_token"}) {
    TC_ASSIGN_OR_RETURN(const auto value, BoolField(config, flag));
    if (value) metadata->SetBool(Str("tokenizer.ggml.", flag), *value);
  }
  return SetTemplate(folder, config, metadata);
}

// Ids that config.json gives, where the tokenizer's own files gave none. Several ends: the first.
Status SetIdsOfConfig(const std::string& folder, model::GgufMetadata* metadata) {
  TC_ASSIGN_OR_RETURN(const json config, ReadJsonFile(folder + "/config.json"));
  for (const char* name : {"bos", "eos"}) {
    const std::string key = Str("tokenizer.ggml.", name, "_token_id");
    const json* field = FindField(config, Str(name, "_token_id"));
    if (field == nullptr || metadata->Has(key)) continue;
    const json& first = field->is_array() && !field->empty() ? field->front() : *field;
    if (first.is_number_integer()) SetId(name, first.get<int64_t>(), metadata);
  }
  return OkStatus();
}

}  // namespace

Status SetTokenizerMetadata(const std::string& folder, int64_t n_vocab,
                            model::GgufMetadata* metadata) {
  Vocab vocab;
  if (FileExists(folder + "/tokenizer.model")) {
    TC_ASSIGN_OR_RETURN(vocab, SetSentencePiece(folder, n_vocab, metadata));
  } else if (const std::string path = folder + "/tokenizer.json"; FileExists(path)) {
    TC_ASSIGN_OR_RETURN(vocab, SetBpe(path, n_vocab, metadata));
  } else if (FileExists(folder + "/vocab.json")) {
    TC_ASSIGN_OR_RETURN(vocab, SetGpt2(folder, n_vocab, metadata));
  } else {
    metadata->SetString("tokenizer.ggml.model", "none");
    return OkStatus();
  }
  TC_RETURN_IF_ERROR(SetSpecial(folder, vocab, metadata));
  return SetIdsOfConfig(folder, metadata);
}

}  // namespace thermocline::tools
