// The only file that sees yaml-cpp, which throws and is caught here.
#include "placement/cluster_yaml.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "placement/link_preset.h"

namespace thermocline::placement {
namespace {

constexpr int kFormatVersion = 1;
constexpr double kGiga = 1e9, kMicro = 1e-6;
// A text of a name or a number is short; anything longer is a mistake.
constexpr size_t kMaxTextBytes = 255;
// Far above any machine, so that counts fit an int and products of two a double.
constexpr uint64_t kMaxCount = 1 << 20;

std::string LineOf(const YAML::Node& node) { return Str("line ", node.Mark().line + 1, ": "); }

// Reads the fields of one mapping; the first error sticks, and a field that nobody asked for is
// one.
class MapReader {
 public:
  MapReader(YAML::Node node, std::string path) : node_(std::move(node)), path_(std::move(path)) {
    if (!node_.IsMap()) Fail(node_, path_.empty() ? "the file" : path_, "is not a mapping");
  }

  std::optional<YAML::Node> Find(const char* name) {
    known_.insert(name);
    if (!status_.ok()) return std::nullopt;
    const YAML::Node field = std::as_const(node_)[name];
    if (!field.IsDefined() || field.IsNull()) return std::nullopt;
    return field;
  }

  std::optional<std::string> Text(const char* name) {
    const auto field = Find(name);
    if (!field) return std::nullopt;
    if (!field->IsScalar() || field->Scalar().size() > kMaxTextBytes) {
      Fail(*field, Name(name), Str("is not a text of at most ", kMaxTextBytes, " bytes"));
      return std::nullopt;
    }
    return field->Scalar();
  }

  void Count(const char* name, uint64_t low, uint64_t high, auto* out) {
    const auto text = Text(name);
    if (!text) return;
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size() || value < low || value > high) {
      return Fail(node_, Name(name), Str("is not a whole number in ", low, "..", high));
    }
    *out = static_cast<std::remove_pointer_t<decltype(out)>>(value);
  }

  void Bool(const char* name, bool* out) {
    const auto text = Text(name);
    if (!text) return;
    if (*text != "true" && *text != "false") return Fail(node_, Name(name), "is not true or false");
    *out = *text == "true";
  }

  void Bytes(const char* name, uint64_t* out) {
    const auto text = Text(name);
    if (!text) return;
    const auto bytes = ParseBytes(*text);
    if (!bytes.ok()) return Fail(node_, Name(name), bytes.status().message());
    *out = *bytes;
  }

  // The same for what cannot be 0 either.
  void Rate(const char* name, double unit, Figure* out) {
    Number(name, unit, out);
    const auto field = Find(name);
    if (!field || out->value > 0) return;
    Fail(*field, Name(name), Str("is not above 0: ", Printable(field->Scalar())));
  }

  // "24.8", which somebody gave, or "24.8 measured"; in multiples of `unit`, 0 or more.
  void Number(const char* name, double unit, Figure* out) {
    const auto text = Text(name);
    if (!text) return;
    const YAML::Node at = *Find(name);
    double value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || !std::isfinite(value)) {
      return Fail(at, Name(name), Str("is not a number: ", Printable(*text)));
    }
    Origin origin = Origin::kGiven;
    std::string_view rest(end, static_cast<size_t>(text->data() + text->size() - end));
    if (!rest.empty()) {
      const auto parsed = ParseOrigin(rest.front() == ' ' ? rest.substr(1) : rest);
      if (!parsed.ok()) return Fail(at, Name(name), parsed.status().message());
      origin = *parsed;
    }
    if (value < 0) return Fail(at, Name(name), Str("is negative: ", Printable(*text)));
    *out = {value * unit, origin};
  }

  template <typename ReadItem>
  void List(const char* name, size_t max_items, ReadItem read_item) {
    const auto field = Find(name);
    if (!field) return;
    if (!field->IsSequence() || field->size() > max_items) {
      return Fail(*field, Name(name), Str("is not a list of at most ", max_items));
    }
    for (size_t i = 0; i < field->size() && status_.ok(); ++i) {
      MapReader item((*field)[i], Str(Name(name), "[", i, "]"));
      read_item(&item);
      status_ = item.Finish();
    }
  }

  void Fail(const YAML::Node& at, const std::string& field, std::string_view what) {
    if (status_.ok()) status_ = InvalidArgument(Str(LineOf(at), field, " ", what));
  }
  // At the field, or where the mapping begins that lacks it.
  void Fail(const char* name, const Status& why) {
    const auto field = Find(name);
    Fail(field ? *field : node_, Name(name), why.message());
  }

  // After the last field.
  Status Finish() {
    if (!status_.ok()) return status_;
    for (const auto& item : node_) {
      const std::string key = item.first.IsScalar() ? item.first.Scalar() : "?";
      if (known_.contains(key)) continue;
      return InvalidArgument(Str(LineOf(item.first), "unknown field: ", Name(Printable(key))));
    }
    return OkStatus();
  }

 private:
  std::string Name(std::string_view name) const {
    return path_.empty() ? std::string(name) : Str(path_, ".", name);
  }

  const YAML::Node node_;
  const std::string path_;
  std::set<std::string, std::less<>> known_;
  Status status_;
};

void ReadDType(MapReader* reader, DType* out) {
  const auto text = reader->Text("type");
  for (int i = 0; text && i < kNumDTypes; ++i) {
    *out = static_cast<DType>(i);
    if (*text == DTypeName(*out)) return;
  }
  reader->Fail("type", InvalidArgument("is not a type of weights"));
}

void ReadWeightUse(MapReader* reader, WeightUse* out) {
  const auto text = reader->Text("op");
  if (!text) return;
  const auto use = ParseWeightUse(*text);
  if (use.ok()) {
    *out = *use;
  } else {
    reader->Fail("op", use.status());
  }
}

void ReadWeightRate(MapReader* reader, WeightRate* rate) {
  ReadWeightUse(reader, &rate->use);
  ReadDType(reader, &rate->dtype);
  Figure share{rate->row_share, Origin::kGiven};
  reader->Number("share", 1, &share);
  rate->row_share = share.value;
  reader->Count("tokens", 1, kMaxCount, &rate->n_tokens);
  reader->Rate("gb_per_s", kGiga, &rate->bytes_per_s);
}

void ReadGpuPeer(MapReader* reader, GpuPeer* peer) {
  if (!reader->Find("gpu")) reader->Fail("gpu", InvalidArgument("is missing"));
  reader->Count("gpu", 0, kMaxGpus - 1, &peer->gpu);
  if (const auto text = reader->Text("path")) {
    const auto path = ParseGpuPath(*text);
    if (path.ok()) {
      peer->path = *path;
    } else {
      reader->Fail("path", path.status());
    }
  }
  reader->Count("nvlinks", 0, kMaxCount, &peer->n_nvlinks);
  peer->preset = reader->Text("preset").value_or("");
  reader->Number("latency_us", kMicro, &peer->latency_s);
  reader->Number("gb_per_s", kGiga, &peer->bytes_per_s);
}

void ReadGpu(MapReader* reader, GpuInfo* gpu) {
  gpu->name = reader->Text("name").value_or("");
  gpu->pci_bus_id = reader->Text("pci_bus_id").value_or("");
  gpu->driver = reader->Text("driver").value_or("");
  gpu->cpus = reader->Text("cpus").value_or("");
  reader->Count("compute_capability", 0, kMaxCount, &gpu->compute_capability);
  reader->Bytes("memory", &gpu->memory_bytes);
  reader->Bytes("free", &gpu->free_bytes);
  reader->Count("pcie_generation", 0, kMaxCount, &gpu->pcie_generation);
  reader->Count("pcie_lanes", 0, kMaxCount, &gpu->pcie_lanes);
  reader->Count("nvlinks", 0, kMaxCount, &gpu->n_nvlinks);
  reader->Count("nvlink_generation", 0, kMaxCount, &gpu->nvlink_generation);
  reader->Count("numa_node", 0, kMaxCount, &gpu->numa_node);
  reader->Number("read_gb_per_s", kGiga, &gpu->read_bytes_per_s);
  reader->Number("upload_gb_per_s", kGiga, &gpu->upload_bytes_per_s);
  reader->Number("download_gb_per_s", kGiga, &gpu->download_bytes_per_s);
  reader->Number("copy_us", kMicro, &gpu->copy_s);
  reader->List("peers", kMaxGpus,
               [&](MapReader* item) { ReadGpuPeer(item, &gpu->peers.emplace_back()); });
}

void ReadWorker(MapReader* reader, WorkerProfile* worker) {
  if (!reader->Find("id")) reader->Fail("id", InvalidArgument("is missing"));
  reader->Count("id", 0, kMaxCount, &worker->id.value);
  worker->host = reader->Text("host").value_or("");
  reader->Count("cores", 0, kMaxCount, &worker->n_cores);
  reader->Count("threads", 0, kMaxCount, &worker->n_threads);
  reader->Count("numa_nodes", 0, kMaxCount, &worker->n_numa_nodes);
  reader->Bool("huge_pages", &worker->huge_pages);
  reader->Bytes("memory", &worker->memory_bytes);
  reader->Rate("read_gb_per_s", kGiga, &worker->read_bytes_per_s);
  reader->Rate("gather_gb_per_s", kGiga, &worker->gather_bytes_per_s);
  reader->Number("op_overhead_us", kMicro, &worker->op_overhead_s);
  reader->List("read_rates", kMaxCount, [&](MapReader* item) {
    ReadRate& rate = worker->read_rates.emplace_back();
    item->Count("threads", 1, kMaxCount, &rate.n_threads);
    item->Rate("gb_per_s", kGiga, &rate.bytes_per_s);
  });
  reader->List("compute_rates", kMaxCount, [&](MapReader* item) {
    ComputeRate& rate = worker->compute_rates.emplace_back();
    ReadDType(item, &rate.dtype);
    item->Count("tokens", 1, kMaxCount, &rate.n_tokens);
    item->Rate("gflops", kGiga, &rate.flops_per_s);
  });
  reader->List("weight_rates", kMaxCount, [&](MapReader* item) {
    ReadWeightRate(item, &worker->weight_rates.emplace_back());
  });
  reader->List("gpus", kMaxGpus,
               [&](MapReader* item) { ReadGpu(item, &worker->gpus.emplace_back()); });
  reader->Count("gpu", 0, kMaxGpus - 1, &worker->gpu);
  if (const auto text = reader->Text("gpu_rows")) {
    const auto rows = model::ParseNeuronRows(*text);
    if (rows.ok()) {
      worker->neuron_rows = *rows;
    } else {
      reader->Fail("gpu_rows", rows.status());
    }
  }
  worker->nccl_version = reader->Text("nccl").value_or("");
}

void ReadTransport(MapReader* reader, LinkKind* out) {
  const auto text = reader->Text("transport");
  if (!text) return;
  const auto kind = ParseLinkKind(*text);
  if (kind.ok()) {
    *out = *kind;
  } else {
    reader->Fail("transport", kind.status());
  }
}

void ReadLink(MapReader* reader, LinkProfile* link) {
  for (const char* end : {"from", "to"}) {
    if (!reader->Find(end)) reader->Fail(end, InvalidArgument("is missing"));
  }
  reader->Count("from", 0, kMaxCount, &link->from.value);
  reader->Count("to", 0, kMaxCount, &link->to.value);
  ReadTransport(reader, &link->transport);
  link->preset = reader->Text("preset").value_or("");
  const Status known = link->preset.empty() ? OkStatus() : FindLinkPreset(link->preset).status();
  if (!known.ok()) reader->Fail("preset", known);
  link->note = reader->Text("note").value_or("");
  reader->Number("latency_us", kMicro, &link->latency_s);
  reader->Rate("gb_per_s", kGiga, &link->bytes_per_s);
  reader->Number("message_us", kMicro, &link->message_s);
}

Result<ClusterProfile> ReadCluster(const YAML::Node& root) {
  ClusterProfile cluster;
  MapReader reader(root, "");
  int version = kFormatVersion;
  reader.Count("version", kFormatVersion, kFormatVersion, &version);
  reader.List("workers", kMaxClusterWorkers,
              [&](MapReader* item) { ReadWorker(item, &cluster.workers.emplace_back()); });
  reader.List("links", kMaxClusterLinks, [&](MapReader* item) {
    ReadLink(item, &cluster.links.emplace_back());
    const LinkProfile& link = cluster.links.back();
    for (const auto& [end, id] : {std::pair("from", link.from), std::pair("to", link.to)}) {
      if (cluster.FindWorker(id) != nullptr) continue;
      item->Fail(end, InvalidArgument(Str("is no worker of this file: ", id)));
    }
  });
  TC_RETURN_IF_ERROR(reader.Finish());
  TC_RETURN_IF_ERROR(ValidateCluster(cluster));
  return cluster;
}

// Six digits tell more than any measurement knows.
std::string Short(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6);
  return std::string(text, end.ptr);
}

std::string Line(std::string_view indent, std::string_view name, std::string_view value) {
  return Str(indent, name, ": ", value, "\n");
}

// Unknown numbers are left out, as a hand-written file would.
std::string NumberField(std::string_view name, const Figure& figure, double unit) {
  if (!figure.known()) return "";
  const std::string origin =
      figure.origin == Origin::kGiven ? "" : Str(" ", OriginName(figure.origin));
  return Str(name, ": ", Short(figure.value / unit), origin);
}

std::string NumberLine(std::string_view name, const Figure& figure, double unit) {
  return figure.known() ? Str("    ", NumberField(name, figure, unit), "\n") : "";
}

std::string Quoted(const std::string& text) {
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << text;
  return emitter.c_str();
}

std::string RatesText(const WorkerProfile& worker) {
  std::string text;
  if (!worker.read_rates.empty()) text += "    read_rates:\n";
  for (const ReadRate& rate : worker.read_rates) {
    text += Str("      - {threads: ", rate.n_threads, ", ",
                NumberField("gb_per_s", rate.bytes_per_s, kGiga), "}\n");
  }
  if (!worker.compute_rates.empty()) text += "    compute_rates:\n";
  for (const ComputeRate& rate : worker.compute_rates) {
    text += Str("      - {type: ", DTypeName(rate.dtype), ", tokens: ", rate.n_tokens, ", ",
                NumberField("gflops", rate.flops_per_s, kGiga), "}\n");
  }
  if (!worker.weight_rates.empty()) text += "    weight_rates:\n";
  for (const WeightRate& rate : worker.weight_rates) {
    text += Str("      - {op: ", WeightUseName(rate.use), ", type: ", DTypeName(rate.dtype),
                ", share: ", Short(rate.row_share), ", tokens: ", rate.n_tokens, ", ",
                NumberField("gb_per_s", rate.bytes_per_s, kGiga), "}\n");
  }
  return text;
}

std::string GpuPeerText(const GpuPeer& peer) {
  std::string text = Str("          - {gpu: ", peer.gpu, ", path: ", GpuPathName(peer.path));
  if (peer.n_nvlinks > 0) text += Str(", nvlinks: ", peer.n_nvlinks);
  if (!peer.preset.empty()) text += Str(", preset: ", Quoted(peer.preset));
  for (const std::string& field : {NumberField("latency_us", peer.latency_s, kMicro),
                                   NumberField("gb_per_s", peer.bytes_per_s, kGiga)}) {
    if (!field.empty()) text += Str(", ", field);
  }
  return text + "}\n";
}

std::string GpuText(const GpuInfo& gpu) {
  constexpr std::string_view kIndent = "        ";
  std::string text = Str("      - name: ", Quoted(gpu.name), "\n");
  const auto add = [&](std::string_view name, bool is_told, const auto& value) {
    if (is_told) text += Line(kIndent, name, Str(value));
  };
  const auto add_bytes = [&](std::string_view name, uint64_t bytes) {
    add(name, true, Str(bytes, "  # ", FormatBytes(bytes)));
  };
  const auto add_number = [&](std::string_view name, const Figure& figure, double unit) {
    if (figure.known()) text += Str(kIndent, NumberField(name, figure, unit), "\n");
  };
  add("pci_bus_id", !gpu.pci_bus_id.empty(), Quoted(gpu.pci_bus_id));
  add("driver", !gpu.driver.empty(), Quoted(gpu.driver));
  add("compute_capability", gpu.compute_capability > 0, gpu.compute_capability);
  add_bytes("memory", gpu.memory_bytes);
  add_bytes("free", gpu.free_bytes);
  add("pcie_generation", gpu.pcie_generation > 0, gpu.pcie_generation);
  add("pcie_lanes", gpu.pcie_lanes > 0, gpu.pcie_lanes);
  add("nvlinks", gpu.n_nvlinks > 0, gpu.n_nvlinks);
  add("nvlink_generation", gpu.nvlink_generation > 0, gpu.nvlink_generation);
  add("numa_node", gpu.numa_node >= 0, gpu.numa_node);
  add("cpus", !gpu.cpus.empty(), Quoted(gpu.cpus));
  add_number("read_gb_per_s", gpu.read_bytes_per_s, kGiga);
  add_number("upload_gb_per_s", gpu.upload_bytes_per_s, kGiga);
  add_number("download_gb_per_s", gpu.download_bytes_per_s, kGiga);
  add_number("copy_us", gpu.copy_s, kMicro);
  if (!gpu.peers.empty()) text += Str(kIndent, "peers:\n");
  for (const GpuPeer& peer : gpu.peers) text += GpuPeerText(peer);
  return text;
}

std::string WorkerText(const WorkerProfile& worker) {
  std::string text = Str("  - id: ", worker.id, "\n");
  if (!worker.host.empty()) text += Line("    ", "host", Quoted(worker.host));
  if (worker.n_cores > 0) text += Line("    ", "cores", Str(worker.n_cores));
  if (worker.n_threads > 0) text += Line("    ", "threads", Str(worker.n_threads));
  if (worker.n_numa_nodes > 0) text += Line("    ", "numa_nodes", Str(worker.n_numa_nodes));
  if (worker.huge_pages) text += Line("    ", "huge_pages", "true");
  text +=
      Line("    ", "memory", Str(worker.memory_bytes, "  # ", FormatBytes(worker.memory_bytes)));
  text += NumberLine("read_gb_per_s", worker.read_bytes_per_s, kGiga);
  text += NumberLine("gather_gb_per_s", worker.gather_bytes_per_s, kGiga);
  text += NumberLine("op_overhead_us", worker.op_overhead_s, kMicro);
  text += RatesText(worker);
  if (!worker.gpus.empty()) text += "    gpus:\n";
  for (const GpuInfo& gpu : worker.gpus) text += GpuText(gpu);
  if (worker.gpu >= 0) text += Line("    ", "gpu", Str(worker.gpu));
  if (worker.neuron_rows != model::NeuronRows::kAsIs) {
    text += Line("    ", "gpu_rows", std::string(model::NeuronRowsName(worker.neuron_rows)));
  }
  if (!worker.nccl_version.empty()) text += Line("    ", "nccl", Quoted(worker.nccl_version));
  return text;
}

std::string LinkText(const LinkProfile& link) {
  std::string text = Str("  - {from: ", link.from, ", to: ", link.to,
                         ", transport: ", LinkKindName(link.transport));
  if (!link.preset.empty()) text += Str(", preset: ", Quoted(link.preset));
  for (const std::string& field : {NumberField("latency_us", link.latency_s, kMicro),
                                   NumberField("gb_per_s", link.bytes_per_s, kGiga),
                                   NumberField("message_us", link.message_s, kMicro)}) {
    if (!field.empty()) text += Str(", ", field);
  }
  if (!link.note.empty()) text += Str(", note: ", Quoted(link.note));
  return text + "}\n";
}

}  // namespace

std::string ClusterToYaml(const ClusterProfile& cluster) {
  std::string text =
      Str("# A cluster as Thermocline plans for it. A number that stands alone was given by hand;\n"
          "# \"measured\" and \"assumed\" tell where the others come from.\n"
          "version: ",
          kFormatVersion, "\nworkers:", cluster.workers.empty() ? " []" : "", "\n");
  for (const WorkerProfile& worker : cluster.workers) text += WorkerText(worker);
  text += Str("links:", cluster.links.empty() ? " []" : "", "\n");
  for (const LinkProfile& link : cluster.links) text += LinkText(link);
  return text;
}

Result<ClusterProfile> ClusterFromYaml(std::string_view yaml) {
  if (yaml.size() > kMaxClusterYamlBytes) {
    return InvalidArgument(
        Str("cluster profile is too large: bytes=", yaml.size(), " limit=", kMaxClusterYamlBytes));
  }
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (root.IsNull()) return InvalidArgument("the file is empty");
    return ReadCluster(root);
  } catch (const YAML::Exception& error) {
    return InvalidArgument(Str("line ", error.mark.line + 1, ": not YAML: ", Printable(error.msg)));
  }
}

}  // namespace thermocline::placement
