#include "tools/generate/run.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/str.h"
#include "base/units.h"
#include "kernels/device.h"
#include "model/ffn_policy.h"
#include "model/gguf.h"
#include "model/kv_dtype.h"
#include "model/sparsity.h"
#include "model/text_decoder.h"
#include "model/tokenizer.h"
#include "model/unicode.h"
#include "worker/graphs_flag.h"

namespace thermocline::tools {
namespace {

// Longest prompt in a file: more text than the longest context holds tokens of 4 bytes.
constexpr size_t kMaxPromptBytes = size_t{256} << 20;

struct Prompt {
  std::string text;  // "" when given as tokens
  std::vector<int32_t> ids;
  std::vector<int32_t> end_ids;
  std::unique_ptr<model::Tokenizer> tokenizer;  // null: the file has none
};

Result<std::unique_ptr<model::Tokenizer>> OpenTokenizer(const model::RangeReader& reader) {
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(reader));
  auto tokenizer = model::Tokenizer::FromGguf(file);
  if (tokenizer.status().code() == StatusCode::kNotFound) {
    return std::unique_ptr<model::Tokenizer>();
  }
  return tokenizer;
}

Status CheckIds(const std::vector<int32_t>& ids, int n_vocab) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= n_vocab) {
      return InvalidArgument(
          Str("prompt token outside the vocabulary:", Kv("id", id), Kv("n_vocab", n_vocab)));
    }
  }
  return OkStatus();
}

// Text of a file, or of standard input for "-", without its last newline.
Result<std::string> ReadPromptFile(const std::string& path) {
  const bool is_input = path == "-";
  std::FILE* file = is_input ? stdin : std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    return NotFound(Str("cannot open the prompt's file: ", path, ": ", std::strerror(errno)));
  }
  std::string text;
  char block[64 * 1024];
  for (size_t n = 1; n > 0 && text.size() <= kMaxPromptBytes;) {
    n = std::fread(block, 1, sizeof block, file);
    text.append(block, n);
  }
  const bool failed = std::ferror(file) != 0;
  if (!is_input) std::fclose(file);
  if (failed) return NotFound(Str("cannot read the prompt's file: ", path));
  if (text.size() > kMaxPromptBytes) {
    return InvalidArgument(Str("prompt too long: ", path, Kv("max_bytes", kMaxPromptBytes)));
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Result<Prompt> ReadPrompt(const GenerateFlags& flags, const worker::LoadedModel& model) {
  Prompt prompt;
  TC_ASSIGN_OR_RETURN(prompt.tokenizer, OpenTokenizer(*model.reader));
  if (prompt.tokenizer != nullptr && !flags.ignore_eos) {
    prompt.end_ids = prompt.tokenizer->special().end_ids;
  }
  if (!flags.prompt_tokens.empty()) {
    TC_ASSIGN_OR_RETURN(prompt.ids, ParseTokenIds(flags.prompt_tokens));
  } else if (prompt.tokenizer == nullptr) {
    return InvalidArgument("the model has no tokenizer; give --prompt-tokens instead of --prompt");
  } else {
    prompt.text = flags.prompt;
    if (!flags.prompt_path.empty()) {
      TC_ASSIGN_OR_RETURN(prompt.text, ReadPromptFile(flags.prompt_path));
    }
    TC_RETURN_IF_ERROR(
        model::CheckUtf8(prompt.text, flags.has_prompt ? "--prompt" : flags.prompt_path));
    prompt.ids = prompt.tokenizer->Encode(prompt.text, {});
  }
  if (prompt.ids.empty()) return InvalidArgument("the prompt is empty: it has no tokens");
  TC_RETURN_IF_ERROR(CheckIds(prompt.ids, model.config.n_vocab));
  return prompt;
}

Result<model::FfnModes> ChooseFfn(const GenerateFlags& flags, worker::LoadedModel* model) {
  TC_ASSIGN_OR_RETURN(const model::FfnWish wish,
                      model::ParseFfnWish(flags.ffn, flags.allowed_loss));
  const std::string path = model::FindSparsityFile(flags.predictor_path, flags.model_path);
  if (wish.needs_sparsity() && !path.empty()) {
    TC_RETURN_IF_ERROR(worker::AttachSparsityFile(path, model));
  }
  TC_ASSIGN_OR_RETURN(const model::FfnModes modes,
                      model::ResolveFfnModes(model->config, model->sparsity, wish));
  const std::string note = model::UnmeasuredNote(model->sparsity, modes);
  if (!note.empty()) std::fprintf(stderr, "note: %s\n", note.c_str());
  return modes;
}

// How many positions the KV cache holds: what the flags ask for, within the model's context.
Result<int64_t> ChoosePositions(const GenerateFlags& flags, int64_t n_prompt,
                                const model::ModelConfig& config) {
  int64_t n_ctx = config.n_ctx_train;
  if (!flags.n_ctx.empty()) {
    auto wanted = ParseCount(flags.n_ctx);
    if (!wanted.ok()) return wanted.status().WithContext("--ctx-size");
    n_ctx = *wanted == 0 ? config.n_ctx_train : *wanted;
    TC_RETURN_IF_ERROR(model::CheckContext(config, n_ctx));
  }
  const int64_t needed = flags.n_predict < 0 ? n_ctx : n_prompt + flags.n_predict;
  if (n_prompt >= n_ctx || needed > n_ctx) {
    return InvalidArgument(
        Str("prompt and completion do not fit the context:", Kv("prompt", n_prompt),
            Kv("n", flags.n_predict), Kv("context", n_ctx), "; raise --ctx-size or lower -n"));
  }
  return needed;
}

double PerSecond(size_t n, double seconds) {
  return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

nlohmann::ordered_json TimingsJson(const Prompt& prompt, const Generation& generation) {
  // The first token comes out of the prompt's last step.
  const size_t n_steps = generation.generated.size() > 0 ? generation.generated.size() - 1 : 0;
  return {{"load_ms", generation.load_s * 1e3},
          {"prompt_n", prompt.ids.size()},
          {"prompt_ms", generation.prompt_s * 1e3},
          {"prompt_per_second", PerSecond(prompt.ids.size(), generation.prompt_s)},
          {"predicted_n", generation.generated.size()},
          {"predicted_ms", generation.generate_s * 1e3},
          {"predicted_per_second", PerSecond(n_steps, generation.generate_s)},
          {"ffn_density", generation.decode_traffic.density()},
          {"ffn_named_density", generation.decode_traffic.named_density()},
          {"peak_rss_bytes", PeakRssBytes()}};
}

void PrintJson(const Prompt& prompt, const Generation& generation, const std::string& text) {
  const nlohmann::ordered_json out = {{"prompt", prompt.ids},
                                      {"generated", generation.generated},
                                      {"text", text},
                                      {"finish_reason", generation.ended ? "stop" : "length"},
                                      {"timings", TimingsJson(prompt, generation)}};
  const std::string line =
      out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::printf("%s\n", line.c_str());
}

// "ffn exact, density 0.11": of the neurons that decoding could have added.
std::string FfnReport(const LocalGenerator& generator, const Generation& generation) {
  const kernels::Traffic& traffic = generation.decode_traffic;
  if (traffic.n_neurons == 0) return generator.ffn_text();
  char density[32];
  std::snprintf(density, sizeof density, ", density %.3f", traffic.density());
  return generator.ffn_text() + density;
}

void PrintReport(const LocalGenerator& generator, const Prompt& prompt,
                 const Generation& generation) {
  std::fprintf(stderr,
               "\nload %.2f s | prompt %zu tokens, %.1f tokens/s | generated %zu tokens, %.1f "
               "tokens/s | %s | %s | peak memory %s%s%s\n",
               generation.load_s, prompt.ids.size(),
               PerSecond(prompt.ids.size(), generation.prompt_s), generation.generated.size(),
               PerSecond(generation.generated.size() - 1, generation.generate_s),
               generator.device_name().c_str(), FfnReport(generator, generation).c_str(),
               FormatBytes(PeakRssBytes()).c_str(), generator.load_note().empty() ? "" : " | ",
               generator.load_note().c_str());
}

uint64_t RandomSeed() {
  std::random_device random;
  const uint64_t high = random();
  return (high << 32) | random();
}

Status ChooseThreads(const GenerateFlags& flags, LocalOptions* options) {
  auto cpus = ParseCpuList(flags.cpus);
  if (!cpus.ok()) return cpus.status().WithContext("--cpus");
  options->cpus = std::move(*cpus);
  TC_ASSIGN_OR_RETURN(options->n_threads, ThreadsOn(options->cpus, flags.n_threads));
  return RunOn(options->cpus);
}

Result<kernels::DeviceChoice> DeviceOf(const GenerateFlags& flags) {
  auto device = kernels::ParseDeviceChoice(flags.device);
  if (!device.ok()) return device.status().WithContext("--device");
  return *device;
}

}  // namespace

Status RunGenerate(const GenerateFlags& flags) {
  TC_RETURN_IF_ERROR(CheckGenerateFlags(flags));
  TC_RETURN_IF_ERROR(kernels::UseInstructionSet(flags.isa).WithContext("--isa"));
  TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModel(flags.model_path));
  TC_ASSIGN_OR_RETURN(const model::FfnModes ffn, ChooseFfn(flags, &model));
  TC_ASSIGN_OR_RETURN(const Prompt prompt, ReadPrompt(flags, model));
  TC_ASSIGN_OR_RETURN(
      const int64_t n_positions,
      ChoosePositions(flags, static_cast<int64_t>(prompt.ids.size()), model.config));
  LocalOptions options;
  TC_ASSIGN_OR_RETURN(options.device, DeviceOf(flags));
  TC_RETURN_IF_ERROR(ChooseThreads(flags, &options));
  options.ffn = ffn;
  TC_ASSIGN_OR_RETURN(options.kv_dtype, model::ParseKvDtype(flags.kv_dtype));
  options.prefill_chunk = flags.prefill_chunk;
  options.logits_path = flags.logits_path;
  TC_ASSIGN_OR_RETURN(options.uses_graphs, worker::ParseCudaGraphs(flags.cuda_graphs));
  TC_ASSIGN_OR_RETURN(
      LocalGenerator generator,
      LocalGenerator::Load(std::move(model), n_positions, options, worker::IgnoreProgress));
  model::SamplingParams params = flags.sampling;
  if (!flags.has_seed) params.seed = RandomSeed();
  std::string text;
  model::TextDecoder decoder;
  TC_ASSIGN_OR_RETURN(model::StopMatcher stops, model::StopMatcher::Create(flags.stops));
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (flags.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  if (!flags.json) std::fwrite(prompt.text.data(), 1, prompt.text.size(), stdout);
  const int64_t n_predict = n_positions - static_cast<int64_t>(prompt.ids.size());
  TC_ASSIGN_OR_RETURN(
      const Generation generation,
      generator.Run(prompt.ids, n_predict, params, prompt.end_ids, [&](int32_t token) {
        if (prompt.tokenizer == nullptr) return true;
        show(stops.Push(decoder.Push(prompt.tokenizer->TokenBytes(token, false))));
        return !stops.stopped();
      }));
  if (!stops.stopped()) show(stops.Push(decoder.Flush()) + stops.Flush());
  if (flags.json) {
    PrintJson(prompt, generation, text);
  } else {
    PrintReport(generator, prompt, generation);
  }
  return OkStatus();
}

}  // namespace thermocline::tools
