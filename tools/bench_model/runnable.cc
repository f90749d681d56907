#include "tools/bench_model/runnable.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/ffn_policy.h"

namespace thermocline::tools {
namespace {

// Combinations differ in more than what a note is about.
void AddOnce(std::string note, std::vector<std::string>* notes) {
  if (std::find(notes->begin(), notes->end(), note) == notes->end()) {
    notes->push_back(std::move(note));
  }
}

// The case of a model that goes furthest; null when it has none.
const BenchCase* LongestOf(size_t i_model, const BenchCases& cases) {
  const BenchCase* longest = nullptr;
  for (const BenchCase& test : cases.cases) {
    if (cases.setups[test.i_setup].i_model != i_model) continue;
    if (longest == nullptr || test.n_positions() > longest->n_positions()) longest = &test;
  }
  return longest;
}

void AddContextNotes(const BenchModels& models, const BenchCases& cases,
                     std::vector<std::string>* notes) {
  for (size_t i = 0; i < models.models.size(); ++i) {
    const BenchCase* const longest = LongestOf(i, cases);
    const int n_ctx_train = models.models[i].config.n_ctx_train;
    if (longest == nullptr || longest->n_positions() <= n_ctx_train) continue;
    AddOnce(Str(TestName(*longest), " goes beyond the context that ", Printable(models.paths[i]),
                " was trained for:", Kv("positions", longest->n_positions()),
                Kv("trained", n_ctx_train)),
            notes);
  }
}

void AddThreadNote(const BenchCases& cases, int n_cores, std::vector<std::string>* notes) {
  int n_threads = 0;
  for (const BenchSetup& setup : cases.setups) n_threads = std::max(n_threads, setup.n_threads);
  if (n_threads <= n_cores) return;
  AddOnce(Str("more threads than cores, so that threads wait for one another:",
              Kv("threads", n_threads), Kv("cores", n_cores)),
          notes);
}

}  // namespace

Result<model::FfnModes> FfnModesOf(const worker::LoadedModel& model, const std::string& ffn,
                                   std::optional<double> allowed_loss) {
  TC_ASSIGN_OR_RETURN(const model::FfnWish wish, model::ParseFfnWish(ffn, allowed_loss));
  return model::ResolveFfnModes(model.config, model.sparsity, wish);
}

Result<RunnableCases> KeepRunnable(const BenchModels& models, const BenchCases& all,
                                   std::optional<double> allowed_loss) {
  RunnableCases kept;
  Status first_refusal;
  for (size_t i = 0; i < all.setups.size(); ++i) {
    const BenchSetup& setup = all.setups[i];
    const Status status =
        FfnModesOf(models.models[setup.i_model], setup.ffn, allowed_loss).status();
    if (!status.ok()) {
      if (first_refusal.ok()) first_refusal = status;
      AddOnce(Str("not available: ", setup.ffn, " of ", Printable(models.paths[setup.i_model]),
                  ": ", status.message()),
              &kept.notes);
      continue;
    }
    for (BenchCase test : all.cases) {
      if (test.i_setup != i) continue;
      test.i_setup = kept.cases.setups.size();
      kept.cases.cases.push_back(test);
    }
    kept.cases.setups.push_back(setup);
  }
  if (kept.cases.setups.empty() && !first_refusal.ok()) return first_refusal;
  return kept;
}

std::vector<std::string> CautionsFor(const BenchModels& models, const BenchCases& cases,
                                     int n_cores, std::optional<double> allowed_loss) {
  std::vector<std::string> notes;
  AddContextNotes(models, cases, &notes);
  AddThreadNote(cases, n_cores, &notes);
  for (const BenchSetup& setup : cases.setups) {
    const worker::LoadedModel& model = models.models[setup.i_model];
    const auto modes = FfnModesOf(model, setup.ffn, allowed_loss);
    const std::string note =
        modes.ok() ? model::UnmeasuredNote(model.sparsity, *modes) : std::string();
    if (!note.empty()) AddOnce(Str(Printable(models.paths[setup.i_model]), ": ", note), &notes);
  }
  return notes;
}

}  // namespace thermocline::tools
