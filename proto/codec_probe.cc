// Each message has a Put and a Get; the two stand side by side so that a new field is added to
// both.
#include "proto/codec_probe.h"

#include "proto/codec_fields.h"
#include "thermocline.pb.h"

namespace thermocline::proto {
namespace {

// A time or a rate.
Status GetFigure(std::string_view field, double value, double* out) {
  TC_RETURN_IF_ERROR(GetFinite(field, value, out));
  if (value < 0) return DataLoss(Str("message: ", field, " is negative"));
  return OkStatus();
}

}  // namespace

void Put(const ProbeLink& in, wire::ProbeLink* out) {
  out->set_round(in.round);
  out->set_peer(in.peer.value);
  out->set_address(in.address);
  out->set_transport(static_cast<uint32_t>(in.transport));
  out->set_leads(in.leads);
  out->set_budget_us(in.budget_us);
  out->set_patience_us(in.patience_us);
}

Status Get(const wire::ProbeLink& in, ProbeLink* out) {
  out->round = in.round();
  out->peer = {in.peer()};
  out->leads = in.leads();
  TC_RETURN_IF_ERROR(GetText("probe.address", in.address(), &out->address));
  TC_RETURN_IF_ERROR(
      GetEnum("probe.transport", in.transport(), placement::LinkKind::kZmq, &out->transport));
  TC_RETURN_IF_ERROR(
      GetInt("probe.budget_us", in.budget_us(), 0, kMaxProbeBudgetUs, &out->budget_us));
  return GetInt("probe.patience_us", in.patience_us(), 0, kMaxProbeBudgetUs, &out->patience_us);
}

void Put(const LinkReport& in, wire::LinkReport* out) {
  out->set_round(in.round);
  out->set_peer(in.peer.value);
  out->set_error(Cut(in.error));
  out->set_round_trip_s(in.round_trip_s);
  out->set_bytes_per_s(in.bytes_per_s);
  out->set_message_s(in.message_s);
  out->set_rate_is_bound(in.rate_is_bound);
  out->set_echo_waits(in.echo_waits);
}

Status Get(const wire::LinkReport& in, LinkReport* out) {
  out->round = in.round();
  out->peer = {in.peer()};
  out->rate_is_bound = in.rate_is_bound();
  out->echo_waits = in.echo_waits();
  TC_RETURN_IF_ERROR(GetText("report.error", in.error(), &out->error));
  TC_RETURN_IF_ERROR(GetFigure("report.round_trip_s", in.round_trip_s(), &out->round_trip_s));
  TC_RETURN_IF_ERROR(GetFigure("report.bytes_per_s", in.bytes_per_s(), &out->bytes_per_s));
  return GetFigure("report.message_s", in.message_s(), &out->message_s);
}

}  // namespace thermocline::proto
