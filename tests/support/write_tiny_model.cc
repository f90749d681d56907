// write_tiny_model ARCH OUT [key=value ...]: writes a random model; keys as in TinyModelSpec.
// ARCH is llama, qwen2, arcee, nemotron, bamboo, opt, powerinfer, powerinfer-bamboo or
// powerinfer-opt.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "tests/support/tiny_model.h"

namespace {

using thermocline::DType;
using thermocline::testing::TinyModelSpec;

bool SetDType(const std::string& name, TinyModelSpec* spec) {
  for (int i = 0; i < thermocline::kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (thermocline::DTypeName(dtype) != name) continue;
    spec->dtype = dtype;
    return true;
  }
  return false;
}

bool SetKey(const std::string& key, const std::string& value, TinyModelSpec* spec) {
  const std::map<std::string, int*> sizes = {
      {"n_layer", &spec->n_layer}, {"n_embd", &spec->n_embd},           {"n_ff", &spec->n_ff},
      {"n_head", &spec->n_head},   {"n_head_kv", &spec->n_head_kv},     {"n_vocab", &spec->n_vocab},
      {"n_ctx", &spec->n_ctx},     {"n_predictor", &spec->n_predictor},
  };
  if (const auto found = sizes.find(key); found != sizes.end()) {
    *found->second = std::atoi(value.c_str());
  } else if (key == "dtype") {
    return SetDType(value, spec);
  } else if (key == "seed") {
    spec->seed = std::strtoull(value.c_str(), nullptr, 10);
  } else if (key == "tied") {
    spec->tied = value == "1";
  } else if (key == "exact_predictor") {
    spec->exact_predictor = value == "1";
  } else if (key == "rope_freqs") {
    spec->rope_freqs = value == "1";
  } else if (key == "activation") {
    spec->activation = value;
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: write_tiny_model ARCH OUT [key=value ...]\n");
    return 2;
  }
  TinyModelSpec spec;
  spec.arch = argv[1];
  if (spec.arch.starts_with("powerinfer")) {
    constexpr size_t kPrefixLength = sizeof "powerinfer-" - 1;
    spec.arch = spec.arch == "powerinfer" ? "llama" : spec.arch.substr(kPrefixLength);
    spec.dialect = thermocline::testing::GgufDialect::kPowerInfer;
  }
  for (int i = 3; i < argc; ++i) {
    const std::string setting = argv[i];
    const size_t equals = setting.find('=');
    if (equals == std::string::npos ||
        !SetKey(setting.substr(0, equals), setting.substr(equals + 1), &spec)) {
      std::fprintf(stderr, "unknown setting: %s\n", argv[i]);
      return 2;
    }
  }
  const auto bytes = thermocline::testing::TinyModel(spec);
  std::ofstream out(argv[2], std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  return out.flush() ? 0 : 1;
}
