#include "worker/kv_cache.h"

#include <algorithm>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

kernels::KvPages PageShape(const model::ModelConfig& config, int n_heads,
                           const placement::KvBudget& budget) {
  kernels::KvPages shape;
  shape.dtype = budget.dtype;
  shape.page_tokens = budget.page_tokens;
  shape.n_head_kv = n_heads;
  shape.head_dim = config.head_dim;
  return shape;
}

// Keys and values of all pages of one layer.
uint64_t LayerBytes(const kernels::KvPages& shape, int64_t n_pages) {
  return 2 * shape.page_bytes() * static_cast<uint64_t>(n_pages);
}

}  // namespace

Result<KvCache> KvCache::Create(const model::ModelConfig& config, int n_heads, int n_layers,
                                const placement::KvBudget& budget, kernels::Device& device) {
  KvCache cache;
  cache.shape_ = PageShape(config, n_heads, budget);
  cache.n_pages_ = budget.n_pages;
  TC_ASSIGN_OR_RETURN(cache.memory_, device.Allocate(LayerBytes(cache.shape_, budget.n_pages) *
                                                     static_cast<uint64_t>(n_layers)));
  cache.free_.reserve(static_cast<size_t>(budget.n_pages));
  for (int64_t page = budget.n_pages - 1; page >= 0; --page) {
    cache.free_.push_back(static_cast<int32_t>(page));
  }
  return cache;
}

uint64_t KvCache::PagesOf(int64_t n_positions) const {
  return DivCeil(static_cast<uint64_t>(n_positions), static_cast<uint64_t>(shape_.page_tokens));
}

void KvCache::MakeRoom(int64_t n_positions, std::vector<int32_t>* page_ids) const {
  page_ids->reserve(std::min(PagesOf(n_positions), static_cast<uint64_t>(n_pages_)));
}

Status KvCache::Reserve(int64_t n_positions, std::vector<int32_t>* page_ids) {
  const uint64_t wanted = PagesOf(n_positions);
  if (wanted <= page_ids->size()) return OkStatus();
  const uint64_t missing = wanted - page_ids->size();
  if (missing > free_.size()) {
    return ResourceExhausted(
        Str("no free kv pages:", Kv("wanted", missing), Kv("free", free_.size())));
  }
  for (uint64_t i = 0; i < missing; ++i) {
    page_ids->push_back(free_.back());
    free_.pop_back();
  }
  return OkStatus();
}

void KvCache::Release(std::vector<int32_t>* page_ids) {
  free_.insert(free_.end(), page_ids->rbegin(), page_ids->rend());
  page_ids->clear();
}

kernels::KvPages KvCache::Layer(int layer) const {
  kernels::KvPages pages = shape_;
  const uint64_t half = LayerBytes(shape_, n_pages_) / 2;
  pages.k = memory_.data() + 2 * half * static_cast<uint64_t>(layer);
  pages.v = pages.k + half;
  return pages;
}

}  // namespace thermocline::worker
