#include "proto/codec_trace.h"

#include "base/str.h"
#include "proto/codec_fields.h"
#include "thermocline.pb.h"

namespace thermocline::proto {
namespace {

template <typename Repeated>
Status GetTexts(std::string_view field, const Repeated& in, int limit,
                std::vector<std::string>* out) {
  TC_RETURN_IF_ERROR(CheckCount(field, in.size(), limit));
  for (const std::string& text : in) {
    TC_RETURN_IF_ERROR(GetText(field, text, &out->emplace_back()));
  }
  return OkStatus();
}

Status GetTime(std::string_view field, int64_t ns, int64_t* out) {
  return GetInt(field, ns, -kMaxClock_ns, kMaxClock_ns, out);
}

void Put(const TraceSpan& in, wire::TraceSpan* out) {
  out->set_name(in.name);
  out->set_track(in.track);
  out->set_begin_ns(in.begin_ns);
  out->set_duration_ns(in.duration_ns);
  out->set_layer(in.layer);
  out->set_step(in.step.value);
  out->set_n_rows(in.n_rows);
  out->set_n_bytes(in.n_bytes);
}

Status Get(const wire::TraceSpan& in, const wire::TraceSpans& all, TraceSpan* out) {
  TC_RETURN_IF_ERROR(GetInt("span.name", in.name(), 0, all.names_size() - 1, &out->name));
  TC_RETURN_IF_ERROR(GetInt("span.track", in.track(), 0, all.tracks_size() - 1, &out->track));
  TC_RETURN_IF_ERROR(GetInt("span.layer", in.layer(), -1, model::kMaxLayers, &out->layer));
  TC_RETURN_IF_ERROR(GetTime("span.begin_ns", in.begin_ns(), &out->begin_ns));
  TC_RETURN_IF_ERROR(
      GetInt("span.duration_ns", in.duration_ns(), 0, kMaxClock_ns, &out->duration_ns));
  TC_RETURN_IF_ERROR(GetInt("span.n_rows", in.n_rows(), 0, kMaxStepTokens, &out->n_rows));
  out->step = {in.step()};
  out->n_bytes = in.n_bytes();
  return OkStatus();
}

}  // namespace

void Put(const ClockProbe& in, wire::ClockProbe* out) { out->set_sent_ns(in.sent_ns); }

Status Get(const wire::ClockProbe& in, ClockProbe* out) {
  return GetTime("clock_probe.sent_ns", in.sent_ns(), &out->sent_ns);
}

void Put(const ClockEcho& in, wire::ClockEcho* out) {
  out->set_sent_ns(in.sent_ns);
  out->set_at_ns(in.at_ns);
}

Status Get(const wire::ClockEcho& in, ClockEcho* out) {
  TC_RETURN_IF_ERROR(GetTime("clock_echo.sent_ns", in.sent_ns(), &out->sent_ns));
  return GetTime("clock_echo.at_ns", in.at_ns(), &out->at_ns);
}

void Put(const TraceSpans& in, wire::TraceSpans* out) {
  for (const std::string& name : in.names) out->add_names(Cut(name));
  for (const std::string& track : in.tracks) out->add_tracks(Cut(track));
  for (const TraceSpan& span : in.spans) Put(span, out->add_spans());
  out->set_n_dropped(in.n_dropped);
}

Status Get(const wire::TraceSpans& in, TraceSpans* out) {
  TC_RETURN_IF_ERROR(GetTexts("trace.names", in.names(), kMaxTraceNames, &out->names));
  TC_RETURN_IF_ERROR(GetTexts("trace.tracks", in.tracks(), kMaxTraceTracks, &out->tracks));
  TC_RETURN_IF_ERROR(CheckCount("trace.spans", in.spans_size(), kMaxTraceSpans));
  out->spans.resize(static_cast<size_t>(in.spans_size()));
  for (int i = 0; i < in.spans_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.spans(i), in, &out->spans[static_cast<size_t>(i)]));
  }
  out->n_dropped = in.n_dropped();
  return OkStatus();
}

}  // namespace thermocline::proto
