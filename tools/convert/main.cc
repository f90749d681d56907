// thermocline-convert: changes the types and the layout of a model's weights.
#include <CLI/CLI.hpp>

#include "tools/convert/flags.h"
#include "tools/convert/run.h"
#include "tools/interrupt.h"
#include "tools/program.h"

namespace {

using thermocline::tools::ConvertFlags;

constexpr char kAbout[] =
    "Writes a model as GGUF with other weight types or another layout, and says what that costs.\n"
    "\n"
    "  thermocline convert model.gguf -o q8.gguf --type q8_0\n"
    "  thermocline convert model.gguf -o rows.gguf --neuron-rows    ffn_down with a row per "
    "neuron\n"
    "  thermocline convert checkpoint/ -o model.gguf --type f16     config.json + *.safetensors\n"
    "  thermocline convert model.gguf --type q4_k --dry-run         only show the plan\n"
    "\n"
    "The table shows, per group of tensors, the bytes before and after and the error made:\n"
    "root mean square relative to the weights' own, and the largest of one weight.";

void AddFlags(CLI::App* app, ConvertFlags* flags) {
  app->add_option(
         "input", flags->input,
         "GGUF file (or PowerInfer's PWRI), or a folder with config.json and *.safetensors "
         "of a llama, qwen2, nemotron, arcee or opt model")
      ->required();
  app->add_option("-o,--output", flags->output, "GGUF file to write");
  app->add_option("--type", flags->dtype,
                  "Type of matrices: f32 f16 bf16 q8_0 q4_0 q4_k q5_k q6_k (default: as they are); "
                  "norms and biases are F32");
  app->add_option("--output-type", flags->output_dtype,
                  "Another type for output and token_embd, e.g. q6_k beside --type q4_k");
  app->add_flag("--neuron-rows", flags->neuron_rows,
                "Store ffn_down with one row per neuron, as sparse execution reads it; a quantised "
                "one becomes Q8_0 unless --type says otherwise");
  app->add_flag("--explain", flags->explain,
                "Also show the error of 8 bits with one scale (int8) and with scale and zero point "
                "(uint8)");
  app->add_flag("--dry-run", flags->dry_run, "Show what would be written, write nothing");
  app->add_option("-t,--threads", flags->n_threads, "Threads (default: all cores)");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  ConvertFlags flags;
  CLI::App app(kAbout, "thermocline convert");
  AddFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::CatchInterrupts();
  return tools::EndProgram(app, tools::RunConvert(flags));
}
