// write_sparsity_file MODEL OUT [key=value ...]: writes a sparsity file with random predictors for
// a model; keys as in SparsitySpec, and predicted_loss, thresholded_loss, allowed_loss.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "model/fingerprint.h"
#include "model/gguf.h"
#include "tests/support/sparsity_image.h"

namespace {

using namespace thermocline;
using testing::SparsitySpec;

struct Settings {
  SparsitySpec spec;
  std::map<std::string, float> guard;  // by the key's end
};

bool Set(const std::string& key, const std::string& value, Settings* settings) {
  SparsitySpec& spec = settings->spec;
  const std::map<std::string, std::string*> texts = {
      {"kind", &spec.kind}, {"input", &spec.input}, {"fingerprint", &spec.fingerprint}};
  const std::map<std::string, float*> numbers = {
      {"predictor_threshold", &spec.predictor_threshold},
      {"activation_threshold", &spec.activation_threshold}};
  const std::map<std::string, std::string> guards = {{"predicted_loss", "predicted.ppl_loss"},
                                                     {"thresholded_loss", "thresholded.ppl_loss"},
                                                     {"allowed_loss", "allowed_loss"}};
  if (const auto text = texts.find(key); text != texts.end()) {
    *text->second = value;
  } else if (const auto number = numbers.find(key); number != numbers.end()) {
    *number->second = std::strtof(value.c_str(), nullptr);
  } else if (const auto guard = guards.find(key); guard != guards.end()) {
    settings->guard[guard->second] = std::strtof(value.c_str(), nullptr);
  } else {
    return false;
  }
  return true;
}

Result<testing::GgufImage> MakeImage(const char* model_path, int n_settings, char** settings) {
  TC_ASSIGN_OR_RETURN(const auto reader, model::OpenMappedFile(model_path));
  TC_ASSIGN_OR_RETURN(const auto file, model::GgufFile::Parse(*reader));
  TC_ASSIGN_OR_RETURN(const auto config, model::ModelConfig::FromGguf(file));
  Settings wanted;
  TC_ASSIGN_OR_RETURN(wanted.spec.fingerprint, model::FingerprintOf(*reader, file));
  for (int i = 0; i < n_settings; ++i) {
    const std::string setting = settings[i];
    const size_t equals = setting.find('=');
    if (equals == std::string::npos ||
        !Set(setting.substr(0, equals), setting.substr(equals + 1), &wanted)) {
      return InvalidArgument("unknown setting: " + setting);
    }
  }
  testing::GgufImage image = testing::SparsityImage(wanted.spec, config);
  for (const auto& [key, value] : wanted.guard) {
    image.AddF32("thermocline.sparsity.guard." + key, value);
  }
  return image;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: write_sparsity_file MODEL OUT [key=value ...]\n");
    return 2;
  }
  const auto image = MakeImage(argv[1], argc - 3, argv + 3);
  if (!image.ok()) {
    std::fprintf(stderr, "write_sparsity_file: %s\n", image.status().message().c_str());
    return 2;
  }
  const auto bytes = image->Bytes();
  std::ofstream out(argv[2], std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  return out.flush() ? 0 : 1;
}
