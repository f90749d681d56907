#include "tools/synth/run.h"

#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/host_info.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "kernels/device.h"
#include "model/gguf_writer.h"
#include "tools/progress_bar.h"
#include "tools/synth/density_check.h"
#include "tools/synth/planter.h"
#include "tools/synth/synth_metadata.h"
#include "tools/synth/synth_tensors.h"

namespace thermocline::tools {
namespace {

struct Written {
  uint64_t file_bytes = 0;
  std::vector<double> density;  // per layer, of the calibration tokens
};

Result<Written> Write(const SynthFlags& flags, const SynthOptions& options, kernels::Device& device,
                      int n_threads) {
  const auto dialect =
      options.powerinfer ? model::GgufDialect::kPowerInfer : model::GgufDialect::kGguf;
  TC_ASSIGN_OR_RETURN(auto writer,
                      model::GgufWriter::Create(flags.output, dialect, SynthMetadata(options),
                                                SynthTensors(options)));
  TC_ASSIGN_OR_RETURN(auto pool, ThreadPool::Create({n_threads, "synth", {}}));
  Written written;
  written.file_bytes = writer->file_bytes();
  {
    ProgressBar bar("synth", writer->file_bytes());
    TC_ASSIGN_OR_RETURN(const auto planter,
                        Planter::Create(options, {*writer, *pool, device, bar}));
    TC_RETURN_IF_ERROR(planter->WriteModel());
    written.density = planter->calibrated_density();
  }
  TC_RETURN_IF_ERROR(writer->Finish());
  return written;
}

void PrintWritten(const std::vector<double>& density) {
  std::printf("layer  active (calibration)\n");
  double sum = 0;
  for (size_t i = 0; i < density.size(); ++i) {
    std::printf("%5zu  %.4f\n", i, density[i]);
    sum += density[i];
  }
  std::printf(" mean  %.4f\n", sum / static_cast<double>(density.size()));
}

void PrintChecked(const std::vector<double>& calibrated, const std::vector<LayerDensity>& layers,
                  bool has_predictors) {
  std::printf("layer  calibration  generated%s\n",
              has_predictors ? "  predicted  recall  precision" : "");
  LayerDensity sum;
  double calibrated_sum = 0;
  const auto n = static_cast<double>(layers.size());
  const auto line = [&](const char* label, double before, const LayerDensity& d) {
    std::printf("%5s  %11.4f  %9.4f", label, before, d.active);
    if (has_predictors) std::printf("  %9.4f  %6.4f  %9.4f", d.predicted, d.recall, d.precision);
    std::printf("\n");
  };
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerDensity& d = layers[i];
    line(std::to_string(i).c_str(), calibrated[i], d);
    calibrated_sum += calibrated[i];
    sum.active += d.active;
    sum.predicted += d.predicted;
    sum.recall += d.recall;
    sum.precision += d.precision;
  }
  line("mean", calibrated_sum / n,
       {sum.active / n, sum.predicted / n, sum.recall / n, sum.precision / n});
}

}  // namespace

Status RunSynth(const SynthFlags& flags) {
  TC_ASSIGN_OR_RETURN(const SynthOptions options, ReadSynthFlags(flags));
  const int n_threads = flags.n_threads > 0 ? flags.n_threads : AvailableCores();
  TC_ASSIGN_OR_RETURN(const auto device, kernels::MakeCpuDevice({n_threads}));
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  TC_ASSIGN_OR_RETURN(const Written written, Write(flags, options, *device, n_threads));
  std::fprintf(stderr, "wrote %s: %s in %.1f s\n", flags.output.c_str(),
               FormatBytes(written.file_bytes).c_str(), Seconds(clock.Now() - begin));
  if (!flags.check) {
    PrintWritten(written.density);
    return OkStatus();
  }
  TC_ASSIGN_OR_RETURN(
      const std::vector<LayerDensity> layers,
      MeasureDensity(flags.output, options, flags.check_tokens, *device, n_threads));
  PrintChecked(written.density, layers, options.powerinfer);
  return OkStatus();
}

}  // namespace thermocline::tools
