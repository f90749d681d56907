#include "coordinator/served_model.h"

#include <ctime>

#include "base/log.h"
#include "base/str.h"
#include "base/text_file.h"
#include "coordinator/http/chat_prompt.h"
#include "model/fingerprint.h"
#include "model/gguf.h"

namespace thermocline::coordinator {
namespace {

constexpr char kTemplateKey[] = "tokenizer.chat_template";
// The longest of published models take some 20 KiB.
constexpr size_t kMaxTemplateBytes = 1 << 20;

struct TemplateSource {
  std::string origin;  // for messages
  std::string text;
};

// What --chat-template names: a built-in, the template itself, or a file.
Result<TemplateSource> OverridingTemplate(const std::string& given) {
  const auto built_in = model::ChatTemplate::BuiltIn(given);
  if (built_in.ok()) {
    return TemplateSource{"--chat-template " + given, *built_in};
  }
  if (given.find("{%") != std::string::npos || given.find("{{") != std::string::npos) {
    return TemplateSource{"--chat-template", given};
  }
  auto text = ReadTextFile(given, kMaxTemplateBytes);
  if (!text.ok()) {
    return InvalidArgument(
        Str("--chat-template: ", text.status().message(), ", and ", built_in.status().message()));
  }
  return TemplateSource{given, *std::move(text)};
}

Result<TemplateSource> ChooseTemplate(const model::GgufFile& file, const std::string& given) {
  if (!given.empty()) return OverridingTemplate(given);
  if (file.Has(kTemplateKey)) {
    TC_ASSIGN_OR_RETURN(std::string text, file.GetString(kTemplateKey));
    return TemplateSource{"the model's chat template", std::move(text)};
  }
  LogWarn("coordinator", "the model has no chat template; chat uses ChatML (see --chat-template)");
  TC_ASSIGN_OR_RETURN(std::string text, model::ChatTemplate::BuiltIn("chatml"));
  return TemplateSource{"chatml", std::move(text)};
}

Result<std::unique_ptr<model::ChatTemplate>> OpenTemplate(const model::GgufFile& file,
                                                          const std::string& given) {
  TC_ASSIGN_OR_RETURN(const TemplateSource source, ChooseTemplate(file, given));
  auto parsed = model::ChatTemplate::Parse(source.text);
  if (!parsed.ok()) {
    const Status status = parsed.status().WithContext(source.origin);
    return Status(status.code(),
                  status.message() + "; override it with --chat-template chatml or a file");
  }
  return std::make_unique<model::ChatTemplate>(std::move(*parsed));
}

http::ModelCard CardOf(const ServedModel& model) {
  http::ModelCard card;
  card.architecture = model.config.arch_name;
  card.n_ctx_train = model.config.n_ctx_train;
  for (const auto& [key, tensor] : model.weights.all()) {
    card.n_params += static_cast<uint64_t>(tensor.n_rows() * tensor.n_cols());
    card.size_bytes += tensor.size_bytes;
  }
  card.created = std::time(nullptr);
  return card;
}

void WarnOfMarks(const ServedModel& model) {
  std::string marks;
  for (const std::string& mark : http::MarksWithoutToken(*model.chat_template, *model.tokenizer)) {
    marks += Str(marks.empty() ? "" : ", ", Printable(mark));
  }
  if (marks.empty()) return;
  LogWarn("coordinator",
          Str("the chat template marks messages by what is no token of this model: ", marks,
              "; answers to chats may make little sense (see --chat-template)"));
}

Status Read(const model::GgufFile& file, const std::string& chat_template, ServedModel* model) {
  TC_ASSIGN_OR_RETURN(model->config, model::ModelConfig::FromGguf(file));
  TC_ASSIGN_OR_RETURN(model->weights, model::WeightIndex::Build(model->config, file));
  TC_ASSIGN_OR_RETURN(model->sparsity, model::SparsityOfModel(file, model->config, model->weights));
  TC_ASSIGN_OR_RETURN(model->tokenizer, model::Tokenizer::FromGguf(file));
  TC_ASSIGN_OR_RETURN(model->chat_template, OpenTemplate(file, chat_template));
  WarnOfMarks(*model);
  model->header_bytes = file.header_bytes();
  TC_ASSIGN_OR_RETURN(model->fingerprint, model::FingerprintOf(*model->reader, file));
  model->card = CardOf(*model);
  return OkStatus();
}

}  // namespace

Result<ServedModel> OpenServedModel(const std::string& path, const std::string& chat_template) {
  ServedModel model;
  TC_ASSIGN_OR_RETURN(model.reader, model::OpenMappedFile(path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*model.reader));
  const Status read = Read(file, chat_template, &model);
  if (!read.ok()) return read.WithContext(path);
  return model;
}

}  // namespace thermocline::coordinator
