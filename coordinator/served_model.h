// The model as the coordinator knows it: header, tokenizer and chat template, no weights.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "coordinator/http/options.h"
#include "model/chat_template.h"
#include "model/config.h"
#include "model/range_reader.h"
#include "model/sparsity.h"
#include "model/tokenizer.h"
#include "model/weights.h"

namespace thermocline::coordinator {

struct ServedModel {
  std::unique_ptr<model::RangeReader> reader;
  model::ModelConfig config;
  model::WeightIndex weights;
  model::Sparsity sparsity;
  uint64_t header_bytes = 0;
  std::string fingerprint;
  std::unique_ptr<model::Tokenizer> tokenizer;
  std::unique_ptr<model::ChatTemplate> chat_template;
  http::ModelCard card;
};

// `chat_template` overrides the file's: a built-in name ("chatml"), a file, or the template itself;
// without either, ChatML is used and said so in the log. Errors name the path, and for a template
// the construct that is not supported.
Result<ServedModel> OpenServedModel(const std::string& path, const std::string& chat_template);

}  // namespace thermocline::coordinator
