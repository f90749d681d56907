// The attention of a layer whose members share its heads: each computes its own, then the lead what
// follows.
#include <algorithm>

#include "placement/cost_model.h"

namespace thermocline::placement {
namespace {

// Linear in the heads: rows of query, key and value, and the keys and values that are stored.
bool IsOfHeads(const OpLoad& op) {
  return op.kind == model::OpKind::kAttention ||
         (op.kind == model::OpKind::kMatMul && model::IsPerHead(op.role));
}

OpLoad Portion(OpLoad op, double share) {
  op.bytes *= share;
  op.flops *= share;
  return op;
}

}  // namespace

CostModel::Attention CostModel::AttentionOf(const Group& group, int layer,
                                            const std::vector<MemberHeads>& heads) const {
  const std::vector<OpLoad>& ops = FormOf(group).layers[static_cast<size_t>(layer)].before_ffn;
  const WorkerSpeed& lead = SpeedOf(group.front());
  Attention attention{.seconds = SecondsOf(ops, lead, {}, 1), .busy_s = {}};
  attention.busy_s.assign(group.size(), 0);
  attention.busy_s[0] = attention.seconds;
  if (heads.front().held.empty()) return attention;

  const auto last = std::find_if(ops.begin(), ops.end(), [](const OpLoad& op) {
    return op.kind == model::OpKind::kAttention;
  });
  const auto after = last == ops.end() ? last : last + 1;
  const auto own_seconds = [&](size_t m) {
    std::vector<OpLoad> own(ops.begin(), after);
    const double share = static_cast<double>(heads[m].held.size()) / inputs_.config.n_head_kv;
    for (OpLoad& op : own) {
      if (IsOfHeads(op)) op = Portion(op, share);
    }
    return SecondsOf(own, SpeedOf(group[m]), {}, 1);
  };
  double sent_s = 0, others_s = 0, lead_s = own_seconds(0);
  double last_s = SecondsOf({after, ops.end()}, lead, {}, 1) + lead.op_overhead_s();
  for (size_t m = 1; m < group.size(); ++m) {
    const HeadRange& held = heads[m].held;
    if (held.empty()) continue;
    const auto way = [&](WorkerId from, WorkerId to) {
      return heads[m].by_group ? WayInGroup(from, to) : WayByHosts(from, to);
    };
    const Way out = way(group[0], group[m]), back = way(group[m], group[0]);
    const int64_t n_cols = inputs_.config.n_embd_q() / inputs_.config.n_head_kv * held.size();
    const uint64_t n_bytes = ActivationBytes(back.wire, inputs_.step.n_rows(), n_cols);
    lead_s += out.message_s;
    sent_s += out.message_s + TransferSeconds(out, Payload::kActivations);
    attention.busy_s[m] = own_seconds(m) + back.message_s;
    others_s = std::max(others_s, sent_s + out.latency_s + attention.busy_s[m] + back.latency_s +
                                      std::min(WorkerSpeed::kLongestOpS,
                                               static_cast<double>(n_bytes) / back.bytes_per_s));
    last_s += lead.op_overhead_s();  // they are put beside the others
  }
  attention.busy_s[0] = lead_s + last_s;
  attention.seconds = std::max(lead_s, others_s) + last_s;
  return attention;
}

}  // namespace thermocline::placement
