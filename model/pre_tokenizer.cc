#include "model/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/str.h"

namespace thermocline::model {
namespace {

// Unicode's White_Space, which is what \s means to the tokenizers of the models; PCRE2's \s has
// U+180E besides. For use inside brackets.
#define TC_SPACE \
  R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"

// GPT-2 (Radford et al. 2019, encoder.py). A last alternative "any spaces" is not needed: what no
// alternative matches is a word too.
#define TC_GPT2                                                                             \
  R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" TC_SPACE R"(\p{L}\p{N}]+|[)" TC_SPACE \
  R"(]+(?![^)" TC_SPACE R"(]))"

// Llama 3 and Qwen2 (their tokenizer.json) differ in how many digits a word may have.
#define TC_LLAMA3(digits)                                                                     \
  R"('[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  R"(| ?[^)" TC_SPACE R"(\p{L}\p{N}]+[\r\n]*|[)" TC_SPACE R"(]*[\r\n]+|[)" TC_SPACE           \
  R"(]+(?![^)" TC_SPACE R"(])|[)" TC_SPACE R"(]+)"

struct Preset {
  std::string_view name;
  std::span<const char* const> passes;
  bool ignore_merges;
  bool add_bos;
};

constexpr const char* kGpt2Passes[] = {TC_GPT2};
constexpr const char* kLlama3Passes[] = {TC_LLAMA3(R"(\p{N}{1,3})")};
constexpr const char* kQwen2Passes[] = {TC_LLAMA3(R"(\p{N})")};
// What llama.cpp does for files that name no pre-tokenizer: punctuation apart, then GPT-2's words,
// then numbers apart, then their digits by three.
constexpr const char* kDefaultPasses[] = {R"([\p{P}$+<=>^~|]+)", TC_GPT2, R"(\p{N}+)",
                                          "[0-9][0-9][0-9]"};

constexpr std::array<Preset, 8> kPresets = {{
    {"default", kDefaultPasses, false, false},
    {"gpt-2", kGpt2Passes, false, false},
    {"gpt2", kGpt2Passes, false, false},
    {"llama-bpe", kLlama3Passes, true, true},
    {"llama3", kLlama3Passes, true, true},
    {"llama-v3", kLlama3Passes, true, true},
    {"qwen2", kQwen2Passes, false, false},
    {"deepseek-r1-qwen", kQwen2Passes, false, false},
}};

// Backtracking steps allowed for one match, per byte of text. The expressions above take at most a
// few per byte (a run of spaces is read, then given back); the constant covers short texts.
constexpr uint64_t kMatchStepsPerByte = 16;
constexpr uint64_t kMatchStepsMin = 100'000;

uint32_t MatchLimit(size_t n_bytes) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(UINT32_MAX, kMatchStepsMin + kMatchStepsPerByte * n_bytes));
}

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// What one call matches with.
struct Workspace {
  explicit Workspace(size_t n_bytes)
      : match(pcre2_match_data_create(1, nullptr)), context(pcre2_match_context_create(nullptr)) {
    if (context) pcre2_set_match_limit(context.get(), MatchLimit(n_bytes));
  }
  // False when memory is out.
  bool ok() const { return match && context; }

  std::unique_ptr<pcre2_match_data, Free> match;
  std::unique_ptr<pcre2_match_context, Free> context;
};

}  // namespace

struct PreTokenizer::Regex {
  std::unique_ptr<pcre2_code, Free> code;

  static Result<Regex> Compile(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    Regex regex;
    regex.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (!regex.code) {
      return Internal(Str("pattern does not compile:", Kv("error", error), Kv("at", offset)));
    }
    // Without a just-in-time compiler the interpreter gives the same words, slower.
    (void)pcre2_jit_compile(regex.code.get(), PCRE2_JIT_COMPLETE);
    return regex;
  }

  // Appends the matches in `text` and what lies between them.
  void Split(std::string_view text, const Workspace& workspace,
             std::vector<std::string_view>* words) const;
};

void PreTokenizer::Regex::Split(std::string_view text, const Workspace& workspace,
                                std::vector<std::string_view>* words) const {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t begin = 0;
  while (begin < text.size()) {
    const int rc = pcre2_match(code.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK,
                               workspace.match.get(), workspace.context.get());
    if (rc < 0) break;  // no match, or the limit
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(workspace.match.get());
    if (range[1] <= range[0]) break;  // no expression above matches nothing
    if (range[0] > begin) words->push_back(text.substr(begin, range[0] - begin));
    words->push_back(text.substr(range[0], range[1] - range[0]));
    begin = range[1];
  }
  if (begin < text.size()) words->push_back(text.substr(begin));
}

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

Result<PreTokenizer> PreTokenizer::Create(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    PreTokenizer pre_tokenizer;
    pre_tokenizer.ignore_merges_ = preset.ignore_merges;
    pre_tokenizer.add_bos_ = preset.add_bos;
    for (const char* pattern : preset.passes) {
      TC_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(pattern));
      pre_tokenizer.passes_.push_back(std::move(regex));
    }
    return pre_tokenizer;
  }
  std::string known;
  for (const Preset& preset : kPresets) known += Str(known.empty() ? "" : ", ", preset.name);
  return InvalidArgument(Str("unknown pre-tokenizer: tokenizer.ggml.pre=\"", Printable(name),
                             "\" supported=\"", known, "\""));
}

std::vector<std::string_view> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> words;
  if (!text.empty()) words.push_back(text);
  const Workspace workspace(text.size());
  if (!workspace.ok()) return words;
  std::vector<std::string_view> next;
  for (const Regex& regex : passes_) {
    next.clear();
    for (const std::string_view word : words) regex.Split(word, workspace, &next);
    words.swap(next);
  }
  return words;
}

}  // namespace thermocline::model
